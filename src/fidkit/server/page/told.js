// What the server says, in German: it says all in English.

import { state } from "./state.js";
import { number } from "./words.js";

// Errors by their code, with what of the request is meant where that makes a difference.
const FAULTS = {
  away: () => "Die Dokumente lassen sich gerade nicht durchsuchen.",
  "conflict.name": ({ name }) => `${name}: Eine andere dieser Dateien heißt auch so.`,
  failure: () => "Auf dem Server ist etwas schiefgegangen; sein Protokoll sagt, was.",
  "invalid.name": ({ name }) => `${name}: So kann eine Datei hier nicht heißen.`,
  "invalid.question": ({ given, most }) => given && `Die Frage hat ${number(given)} Zeichen; der Server nimmt ${number(most)}.`,
  late: () => "Die Frage hat länger gewartet, als sie darf.",
  no_room: ({ name }) => `${name}: Der Server kann die Datei nicht aufbewahren; vermutlich ist seine Platte voll.`,
  "not_found.name": () => "Diese Datei ist schon entfernt.",
  "not_found.source": () => "Diese Stelle gibt es in den Dokumenten nicht mehr.",
  overloaded: () => "Der Server nimmt gerade keine Fragen mehr an.",
  too_large: ({ most }) => `Das ist zu groß: Der Server nimmt ${number(most / 1e6)} MB auf einmal.`,
  too_slow: () => "Die Verbindung ist zu langsam.",
  unsupported: ({ name }) => `${name}: Dateien dieser Art werden nicht gelesen.`,
};

// What has no code, by its sentences.
const SENTENCES = [
  [/^(\d+) of (\d+) passages have no stored memory and were encoded now$/, (n, of) => `Von ${of} Stellen wurden ${n} erst jetzt kodiert, da ihr Gedächtnis nicht gespeichert ist`],
  [/^no passage shares a word with the question$/, () => "Keine Stelle hat ein Wort mit der Frage gemeinsam"],
  [/^the answer is a guess from the question alone$/, () => "die Antwort ist aus der Frage allein geraten"],
  [/^the question is (\d+) tokens long, the reader takes (\d+): the last (\d+) were cut$/, (n, most, cut) => `Die Frage ist für den Leser um ${cut} von ${n} Token zu lang: Das Ende fiel weg`],
  [/^(.+): is away$/, (name) => `${name}: nicht da`],
  [/^(.+): could not be read$/, (name) => `${name}: nicht lesbar`],
  [/^the server's disk is full or can't be written to$/, () => "Die Platte des Servers ist voll oder schreibgeschützt"],
  [/^indexing failed, the server's log says why$/, () => "Das Erfassen ist gescheitert; warum, sagt das Protokoll des Servers"],
  [/^what was indexed before is still served$/, () => "was vorher erfasst war, bleibt abrufbar"],
];

/** An error of the server, {message, code, param, values}, in the language of the page if it can be. */
export function inWords({ message, code, param, values }) {
  if (state.language === "en") return message;
  return (FAULTS[`${code}.${param}`] ?? FAULTS[code])?.(values ?? {}) || message;
}

/** What else the server says, in the language of the page as far as the sentences are known. */
export function sentence(text) {
  return state.language === "en" ? text : text.split("; ").map(inGerman).join("; ");
}

function inGerman(part) {
  for (const [pattern, word] of SENTENCES) {
    const found = pattern.exec(part);
    if (found) return word(...found.slice(1));
  }
  return part;
}
