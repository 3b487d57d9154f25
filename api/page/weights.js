// Making a part of a prompt weigh more or less, in the grammar that the request asks for. Pure
// functions of text and selection.

const STEP = 0.1;
const isEdge = (letter) => /[,\n()[\]{}|]/.test(letter);

/** The tag around the caret, without blanks; or the selection. */
function target(text, start, end) {
  if (start === end) {
    while (start > 0 && !isEdge(text[start - 1])) start -= 1;
    while (end < text.length && !isEdge(text[end])) end += 1;
  }
  while (start < end && /\s/.test(text[start])) start += 1;
  while (end > start && /\s/.test(text[end - 1])) end -= 1;
  return [start, end];
}

const written = (weight) => String(Number(weight.toFixed(2)));

/** "(cat:1.2)", as A1111 and ComfyUI write it. */
function number(text, start, end, direction) {
  // "tag:1.2" is what the caret finds inside brackets.
  const inner = /^(.*?):(-?[\d.]+)$/s.exec(text.slice(start, end));
  if (inner && text[start - 1] === '(' && text[end] === ')') end = start + inner[1].length;
  const tail = /^:(-?[\d.]+)\)/.exec(text.slice(end));
  const wrapped = text[start - 1] === '(' && tail;
  const weight = (wrapped ? Number(tail[1]) : 1) + direction * STEP;
  const from = wrapped ? start - 1 : start;
  const to = wrapped ? end + tail[0].length : end;
  const words = text.slice(start, end);
  const neutral = Math.abs(weight - 1) < STEP / 10;
  const piece = neutral ? words : `(${words}:${written(weight)})`;
  const at = from + (neutral ? 0 : 1);
  return { text: text.slice(0, from) + piece + text.slice(to), start: at, end: at + words.length };
}

/** "{cat}" and "[cat]", as NovelAI writes it: a factor of 1.05 each. */
function braces(text, start, end, direction) {
  const [open, close, other, otherClose] = direction > 0 ? ['{', '}', '[', ']'] : ['[', ']', '{', '}'];
  const words = text.slice(start, end);
  if (text[start - 1] === other && text[end] === otherClose) {
    return { text: text.slice(0, start - 1) + words + text.slice(end + 1), start: start - 1, end: end - 1 };
  }
  return { text: `${text.slice(0, start)}${open}${words}${close}${text.slice(end)}`, start: start + 1, end: end + 1 };
}

/** `direction` 1 or -1; the new text with its selection, or null where there is nothing to weigh. */
export function nudge(text, start, end, direction, syntax) {
  [start, end] = target(text, start, end);
  if (start === end || syntax === 'plain') return null;
  return syntax === 'novelai' ? braces(text, start, end, direction) : number(text, start, end, direction);
}
