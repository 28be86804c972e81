// What CI asks of the modules of the review page and of their tests.
import js from "@eslint/js";
import globals from "globals";

const MODULES = "gradcam_callbacks/reviewing/page/js";
// These know no document: they are tested without a browser.
const NAMES = [
  "areas",
  "arrangement",
  "csv",
  "curves",
  "decode",
  "difference",
  "format",
  "gif",
  "interpolation",
  "mean",
  "zoom",
];
const PURE = NAMES.map((name) => `${MODULES}/${name}.js`);

export default [
  js.configs.recommended,
  {
    rules: {
      curly: ["error", "multi-line"],
      eqeqeq: "error",
      "max-len": ["error", { code: 120, ignoreUrls: true }],
      "max-lines-per-function": ["error", { max: 60 }],
      "no-var": "error",
      "one-var": ["error", "never"],
      "prefer-const": "error",
    },
  },
  {
    files: [`${MODULES}/*.js`],
    rules: {
      "no-restricted-syntax": [
        "error",
        {
          selector: ":matches(Program, Program > ExportNamedDeclaration) > VariableDeclaration[kind=let]",
          message: "What changes belongs into state.js.",
        },
      ],
    },
  },
  { files: [`${MODULES}/*.js`], ignores: PURE, languageOptions: { globals: globals.browser } },
  { files: PURE, languageOptions: { globals: { atob: "readonly" } } },
  { files: ["tests/**/*.js", "*.js"], languageOptions: { globals: globals.node } },
  // What it hands to the page runs there.
  { files: ["tests/reviewing/firefox.js"], languageOptions: { globals: { ...globals.node, ...globals.browser } } },
];
