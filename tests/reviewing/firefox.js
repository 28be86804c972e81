/*
 * Walks the review page in a real headless Firefox, as a person would, and prints what was there as JSON:
 *
 *     node firefox.js FIREFOX PAGE DOWNLOADS
 */
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

import puppeteer from "puppeteer-core";

const [firefox, file, downloads] = process.argv.slice(2);
const PATIENCE = 20_000;

/** How colourful the most colourful pixel of a canvas is; -1 where nothing is drawn. */
const CHROMA = `canvas => {
  if (canvas.width < 2) return -1;
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let most = 0;
  for (let at = 0; at < data.length; at += 4) {
    const colours = [data[at], data[at + 1], data[at + 2]];
    most = Math.max(most, Math.max(...colours) - Math.min(...colours));
  }
  return most;
}`;

const browser = await puppeteer.launch({
  browser: "firefox",
  executablePath: firefox,
  headless: true,
  extraPrefsFirefox: {
    "browser.download.dir": downloads,
    "browser.download.folderList": 2,
    "browser.download.useDownloadDir": true,
    "browser.download.always_ask_before_handling_new_types": false,
  },
});
const told = { version: await browser.version(), console: [], requests: [] };
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.on("console", (message) => told.console.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => told.console.push(`error: ${error.message}`));
  page.on("request", (request) => told.requests.push(request.url().slice(0, 200)));
  const address = pathToFileURL(file).href;
  told.file = address;
  await page.setViewport({ width: 1280, height: 1800 });

  const chromas = (selector) => page.$$eval(selector, new Function("all", `return all.map(${CHROMA})`));
  const textOf = (selector) => page.$eval(selector, (node) => node.textContent);
  const settled = () => page.evaluate(() => new Promise((done) => setTimeout(done, 400)));
  const press = async (key) => {
    await page.keyboard.press(key);
    await settled();
  };

  await page.goto(address);
  await page.waitForFunction(() => document.querySelector(".cell canvas")?.width > 1);
  await page.$eval("#controls", (node) => node.scrollIntoView());
  await settled();
  told.grid = await chromas(".cell canvas");
  told.opened = await textOf("#now");
  told.address = await page.evaluate(() => location.hash);

  await press("Home");
  await press("c");
  await press("End");
  told.pinned = await chromas(".view.pinned canvas");
  told.difference = await chromas(".view.difference canvas");
  told.moved = await textOf(".view.difference .note");

  await press("g");
  told.group = await page.$eval("#group", (node) => node.value);
  told.means = await chromas(".mean .shown canvas");
  await press("k");
  told.cards = await page.$$eval(".probe:not(.mean)", (all) => all.length);
  await page.select("#group", "none");
  await settled();

  await page.$eval(".probe .cell", (node) => node.click());
  await settled();
  told.large = await textOf("#large-title");
  told.figures = await chromas("#large-pictures canvas");
  await press("z");
  told.zoom = await textOf("#zoom-now");

  for (const id of ["save-picture", "save-film", "save-animation", "save-curves", "save-numbers"]) {
    await page.$eval(".save summary", (node) => node.click());
    await page.$eval(`#${id}`, (node) => node.click());
    await settled();
  }
  const isPartial = () => fs.readdirSync(downloads).some((name) => name.endsWith(".part"));
  for (let tries = 0; tries < 40 && (fs.readdirSync(downloads).length < 5 || isPartial()); tries++) await settled();
  told.files = fs.readdirSync(downloads).map((name) => path.extname(name)).sort();

  await page.reload();
  await settled();
  told.reloaded = [await textOf("#large-title"), await textOf("#zoom-now")];
} finally {
  await browser.close();
}
console.log(JSON.stringify(told));
