// All that the page knows, in one place, and who draws what of it.

export const FIRST_PASSAGES = 5;

/** What belongs to one question, before it is asked. */
export const blank = () => ({
  phase: "idle", // then "reading", and "done" or "failed"
  question: "",
  text: "", // of the answer, while it grows
  passages: [], // as evidence has them; while the answer is read, without shares
  answer: null, // as the API gives it
  problem: "", // what went wrong, in words
  shown: FIRST_PASSAGES,
  tests: null, // by passage: what the answer would be without it
  testing: false,
  testProblem: "",
  linked: null, // characters of a document that a link leads to
  opened: {}, // by passage: its source, as the API shows it
  without: {}, // by passage: whether it is looked at what would be without it
  others: null, // answers of other readers
});

export const state = {
  ...blank(),
  language: "en",
  readers: [],
  reader: "",
  corpus: null,
  documents: null,
  work: null, // what is being done with documents: {message, share}, and what went wrong: {problem, fault}
  leaving: {}, // by name: files that are to be removed, and the timer while that can be undone
  history: [],
};

const drawers = [];

/** Have something drawn whenever one of these values changes. */
export function drawn(names, draw) {
  drawers.push([new Set(names), draw]);
}

/** Change some values, and draw what shows them. */
export function change(values) {
  Object.assign(state, values);
  const changed = Object.keys(values);
  for (const [names, draw] of drawers) {
    if (changed.some((name) => names.has(name) || name === "language")) draw(state);
  }
}

/** What a passage is known by: its place, since pieces of one passage share its id. */
export const keyOf = (passage) => `${passage.id}\n${passage.source}`;
