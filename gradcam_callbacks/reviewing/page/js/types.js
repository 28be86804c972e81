// @ts-check
/*
 * The types of the page: first what Python sends, then what the modules make of it. No code.
 *
 * S recorded steps, N probes, K targets. "Packed" is the base64 of an array of little-endian numbers in C order. Of
 * packed shares, a number v between 0 and 1 is the uint16 65534 * v, and 65535 is "not known".
 */

/**
 * All that Python sends, as JSON. `report.py` makes it, and a test holds that it has these keys and no others.
 * @typedef {object} PageData
 * @property {string} unit what a step is: "epoch" or "batch"
 * @property {string[]} names of the N probes
 * @property {string[]} targets names of the K targets
 * @property {number[] | null} labels class index of each probe
 * @property {Record<string, string>} classes the name of each class that occurs, by its index
 * @property {[number, number]} size height and width of the pictures, in pixels
 * @property {string[]} pictures N data URIs
 * @property {(string | null)[]} regions of each probe the outline as an SVG path, in thousandths of the sides
 * @property {boolean} crowded whether there are so many probes that cells are small
 * @property {Record<string, string>} colormaps by name, packed uint8: red, green, blue and cover of 256 colours
 * @property {number} opacity where the heat is highest, before somebody changes it
 * @property {string[]} healths what may be said of a map; the first is said of one that is fit to be read
 * @property {string[]} warnings the kinds of events that warn
 * @property {Settled} settled
 * @property {Record<string, Measure>} measures by name, in the order in which they are shown
 * @property {RunData[]} runs
 */

/**
 * Up to where drift is calm. What is more than both is marked.
 * @typedef {object} Settled
 * @property {number} drift a share of the attention
 * @property {number} floors a multiple of the noise floor
 */

/**
 * What is measured of each map.
 * @typedef {object} Measure
 * @property {string} title what it is called, such as "Noise floor"
 * @property {string} says what it is, such as "drift by noise alone"
 * @property {string} unit "share", "correlation", or another one
 * @property {number | null} low the least that it can be; null if there is none
 * @property {number | null} high the most that it can be; null if there is none
 */

/**
 * One run, as Python sends it.
 * @typedef {object} RunData
 * @property {string} name
 * @property {string | null} link its address
 * @property {string} layer
 * @property {string} method
 * @property {string} score what kind of score is explained
 * @property {[number, number]} grid rows and columns of its maps on this page
 * @property {number[]} shape of its maps as they were recorded: rows and columns; of a signal the length; of a volume
 *     depth, rows and columns
 * @property {number[]} steps S numbers, rising; -1 is before training
 * @property {string} maps packed uint8 (S, N, K, rows, columns): 255 shares of each map's own maximum
 * @property {string} peaks packed float32 (S, N, K): these maxima
 * @property {string} scores packed float32 (S, N, K)
 * @property {string | null} probabilities packed shares (S, N, K)
 * @property {string} predicted packed int32 (S, N): class indices, or negative where none is predicted
 * @property {string} explained packed int32 (S, N, K): class indices, or negative
 * @property {string} health packed uint8 (S, N, K): indices into `healths`
 * @property {Record<string, string>} measures by name, packed (S, N, K): shares of the way from `low` to `high`, or
 *     float32 of a measure that lacks one of them; one that is known of no map is left out
 * @property {Curves} curves
 * @property {string} verdict "ok", "unsettled", "moved", "suspect", "shortcut", "constant" or "unfit"
 * @property {[string, boolean][]} summary pieces of the summary, each with whether it warns
 * @property {TestData[]} tests in the order of their steps
 * @property {EventData[]} events
 * @property {string[]} notes what a reader has to know of the record
 */

/**
 * Means over all maps and metrics, also of steps whose maps were left out; null is "not known".
 * @typedef {object} Curves
 * @property {number[]} steps
 * @property {(number | null)[]} drift
 * @property {(number | null)[]} floor
 * @property {(number | null)[] | null} focus of the maps that explain the class of the picture, or else of all
 * @property {Record<string, (number | null)[]>} metrics
 */

/**
 * A test of what the answers rest on: areas were covered, and pasted on other pictures. Of the last test all findings
 * are there, the most serious first; of earlier ones those that the last one has not, or found otherwise.
 * @typedef {object} TestData
 * @property {number} step whose model was tested
 * @property {string} reason why nothing was tested; "" where it was
 * @property {FindingData[]} findings
 * @property {number} unlisted how many more there are
 */

/**
 * What a test found of the answers of one class.
 * @typedef {object} FindingData
 * @property {number} answer the index of the class
 * @property {string} kind "outside" (the marked regions) or "common" (to the pictures of the class)
 * @property {string} outcome "confirmed", "untold" or "cleared"
 * @property {string} text
 * @property {Record<string, [number, number]>} counts by what was done, of how many pictures how many changed
 * @property {AreaData[]} areas of the decisive pictures, or of all that were tested
 * @property {number} others how many of these pictures are not among `areas`
 * @property {(number | null)[] | null} attention the share of it on the area at each of the curves' steps; null where
 *     nothing warns
 */

/**
 * What was covered of a picture.
 * @typedef {object} AreaData
 * @property {number} probe its index
 * @property {string} path its outline as an SVG path, in thousandths of the sides
 */

/**
 * Something worth a look.
 * @typedef {object} EventData
 * @property {number} step
 * @property {string} kind "constant", "suspect", "shortcut", "cleared", "moved", "class" or "health"
 * @property {number | null} probe its index; null is "all"
 * @property {number | null} target its index; null is "all"
 * @property {number[] | null} probes those that it is about; null is "all"
 * @property {string} text
 */

/**
 * A run with its arrays unpacked; what is not known is NaN.
 * @typedef {object} Unpacked
 * @property {number} number its place among the runs
 * @property {string} color
 * @property {Uint8Array} maps
 * @property {Float32Array} peaks
 * @property {Float32Array} scores
 * @property {Float32Array | null} probabilities
 * @property {Int32Array} predicted
 * @property {Int32Array} explained
 * @property {Uint8Array} health
 * @property {Partial<Record<string, Float32Array>>} measures
 * @property {number} highest the largest maximum of all maps that share a scale with its own
 */

/** @typedef {Omit<RunData, keyof Unpacked> & Unpacked} Run */

/**
 * A line of a chart.
 * @typedef {object} Line
 * @property {Run} run
 * @property {number[]} steps
 * @property {ArrayLike<number | null>} values one a step
 * @property {boolean} [isFaint] whether it is only there to compare with
 */

/**
 * A flagged point of a chart.
 * @typedef {object} Dot
 * @property {Run} run
 * @property {number} step
 * @property {number | null} value
 * @property {string} text
 * @property {string} kind of event
 */

/**
 * A chart over the steps.
 * @typedef {object} Chart
 * @property {HTMLElement} title
 * @property {string} label what it shows, for those who do not see it
 * @property {Line[]} series
 * @property {Line[]} [bands] noise floors
 * @property {Dot[]} [dots]
 * @property {number} low the value at the bottom
 * @property {number} high the value at the top
 * @property {(value: number | null) => string} format
 * @property {number} [height] in pixels
 * @property {boolean} [hasAxis] whether the steps are written below
 */

/** @typedef {[number, number]} Point */

export {};
