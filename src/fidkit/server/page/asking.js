// A question on its way: asked, watched while its answer grows, then tested in the background.

import { ApiError, post, streamed } from "./api.js";
import { remember } from "./history.js";
import { blank, change, keyOf, state } from "./state.js";
import { inWords } from "./told.js";
import { say } from "./words.js";

const PASSAGES = 20;
const MOST_TESTS = 20; // that a server takes

let running = new AbortController();

/** Ask; a question that is being read is given up. */
export async function ask(question) {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  change({ ...blank(), phase: "reading", question });
  const asked = { question, reader: state.reader, passages: PASSAGES, stream: true };
  try {
    for await (const [name, record] of streamed("/v1/answer", asked, signal)) {
      if (signal.aborted) return;
      take(name, record);
    }
    if (state.phase === "reading") throw new ApiError(0);
  } catch (error) {
    if (!signal.aborted) change({ phase: "failed", problem: described(error) });
    return;
  }
  remember(question, state.answer.answer);
  await test(state.shown);
}

/** Give up what is being read; whether anything was. */
export function stop() {
  if (state.phase !== "reading") return false;
  running.abort();
  change({ phase: "idle", passages: [], text: "" });
  return true;
}

/** Find out what the answer would be without each of the first passages, before somebody asks. */
export async function test(n) {
  const { signal } = running;
  const count = Math.min(n, state.passages.length, MOST_TESTS);
  if (count === 0) return;
  const asked = { question: state.question, reader: state.reader, passages: PASSAGES, test_evidence: count };
  change({ testing: true, testProblem: "" });
  try {
    const answer = await post("/v1/answer", asked, signal);
    const tests = new Map(answer.evidence.map((one) => [keyOf(one), one.without]));
    if (!signal.aborted) change({ tests, testing: false });
  } catch (error) {
    if (!signal.aborted) change({ testing: false, testProblem: described(error) });
  }
}

/** Ask the other readers the same, one after the other, so that none slows another down. */
export async function compare() {
  const { signal } = running;
  const others = state.readers.filter((reader) => reader.name !== state.answer.reader);
  let found = others.map((reader) => ({ reader: reader.name, answer: null, problem: "" }));
  change({ others: found });
  for (const { name } of others) {
    let made;
    try {
      made = { answer: await post("/v1/answer", { question: state.question, reader: name, passages: PASSAGES }, signal) };
    } catch (error) {
      made = { problem: described(error) };
    }
    if (signal.aborted) return;
    found = found.map((one) => (one.reader === name ? { ...one, ...made } : one));
    change({ others: found });
  }
}

/** What went wrong, for the person. */
export function described(error) {
  if (!(error instanceof ApiError)) throw error;
  if (error.status === 0) return say("unreachable");
  const told = inWords(error.fault);
  return error.retryAfter ? `${told} ${say("later", error.retryAfter)}` : told;
}

function take(name, record) {
  if (name === "passages") change({ passages: record.passages });
  else if (name === "text") change({ text: record.text });
  else if (name === "error") throw new ApiError(500, record.error);
  else if (name === "answer") change({ phase: "done", answer: record, passages: record.evidence });
}
