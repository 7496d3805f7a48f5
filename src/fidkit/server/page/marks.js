// Where in a passage its sentence and the answer stand. The API counts characters, JavaScript UTF-16 units.

/** The pieces of a passage's text, as {text, kind}: kind is "", "sentence" or "answer". */
export function marked(one) {
  const found = placeOf(one);
  if (found === null) return [{ text: one.text, kind: "" }];
  const { sentence, answer } = found;
  return [
    { text: one.text.slice(0, sentence[0]), kind: "" },
    { text: one.text.slice(sentence[0], answer[0]), kind: "sentence" },
    { text: one.text.slice(...answer), kind: "answer" },
    { text: one.text.slice(answer[1], sentence[1]), kind: "sentence" },
    { text: one.text.slice(sentence[1]), kind: "" },
  ].filter((piece) => piece.text);
}

/** What a link leads to as a passage that is marked: the answer, given as `34-47`, or else all of it. */
export function markedAs({ title, text, where, span }, answer) {
  const found = /^(\d+)-(\d+)$/.exec(answer ?? "")?.slice(1).map(Number);
  const inside = found && span[0] <= found[0] && found[0] < found[1] && found[1] <= span[1];
  const chosen = inside ? found : span;
  const sentence = [...text].slice(chosen[0] - span[0], chosen[1] - span[0]).join("");
  return { title, text, where, span: chosen, sentence };
}

/** The characters of a passage in its document, as its source says; null where it doesn't. */
export function charactersOf(source) {
  const found = /^(.*):(\d+)-(\d+)$/s.exec(source);
  return found && { document: found[1], start: Number(found[2]), end: Number(found[3]) };
}

/** The sentence around the answer, as a place in its document; the passage where it has none. */
export function sentenceSource(one) {
  const place = charactersOf(one.source);
  const found = placeOf(one);
  if (place === null || found === null) return one.source;
  const before = [...one.text.slice(0, found.sentence[0])].length;
  const length = [...one.text.slice(...found.sentence)].length;
  return `${place.document}:${place.start + before}-${place.start + before + length}`;
}

function placeOf(one) {
  if (!one.span || !one.sentence) return null;
  const begins = charactersOf(one.source)?.start ?? 0;
  const characters = [...one.text];
  const units = (n) => characters.slice(0, n).join("").length;
  const answer = [units(one.span[0] - begins), units(one.span[1] - begins)];
  const first = one.text.lastIndexOf(one.sentence, answer[0]);
  const sentence = [first, first + one.sentence.length];
  // A passage that isn't word for word in its document is shown unmarked, rather than marked wrongly.
  return first < 0 || answer[0] >= answer[1] || answer[1] > sentence[1] ? null : { sentence, answer };
}
