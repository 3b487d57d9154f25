// A line over the last minutes, drawn as vectors: no library, and the colours are the page's own.

import { svg } from '/page/dom.js';

const WIDTH = 640;
const HEIGHT = 180;
const EDGE = { left: 64, right: 10, top: 14, bottom: 26 };

/** A round number at or above the largest value, for the top of the scale. */
function ceiling(most) {
  const power = 10 ** Math.floor(Math.log10(Math.max(most, 1e-9)));
  return [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= most);
}

/**
 * lines: [{label, points: [[time ms, value]], second}]; `unit` is written behind the scale's numbers.
 * Places without a value are left out: the line goes on to the next one.
 */
export function plot(lines, unit, label) {
  const points = lines.flatMap((line) => line.points).filter(([, value]) => Number.isFinite(value));
  const drawing = svg('svg', { class: 'plot', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': label });
  if (points.length < 2) {
    drawing.append(svg('text', { x: WIDTH / 2, y: HEIGHT / 2, 'text-anchor': 'middle' }, 'A line will grow here.'));
    return drawing;
  }
  const times = points.map(([time]) => time);
  const [first, last] = [Math.min(...times), Math.max(...times)];
  const top = ceiling(Math.max(...points.map(([, value]) => value)) || 1);
  const x = (time) => EDGE.left + ((time - first) / Math.max(1, last - first)) * (WIDTH - EDGE.left - EDGE.right);
  const y = (value) => HEIGHT - EDGE.bottom - (value / top) * (HEIGHT - EDGE.top - EDGE.bottom);
  for (const share of [0, 0.5, 1]) {
    drawing.append(svg('line', { class: 'axis-line', x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y(top * share), y2: y(top * share) }),
      svg('text', { x: EDGE.left - 6, y: y(top * share) + 4, 'text-anchor': 'end' }, `${Number((top * share).toPrecision(2))}${share === 1 ? ` ${unit}` : ''}`));
  }
  const clock = (time) => new Date(time).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  drawing.append(svg('text', { x: EDGE.left, y: HEIGHT - 5 }, clock(first)), svg('text', { x: WIDTH - EDGE.right, y: HEIGHT - 5, 'text-anchor': 'end' }, clock(last)));
  for (const line of lines) {
    const known = line.points.filter(([, value]) => Number.isFinite(value)).map(([time, value]) => [x(time).toFixed(1), y(value).toFixed(1)]);
    drawing.append(svg('g', { class: line.second ? 'second' : '' }, svg('title', {}, line.label),
      svg('path', { d: known.map((point, at) => `${at ? 'L' : 'M'}${point.join(' ')}`).join('') }),
      known.map(([cx, cy]) => svg('circle', { cx, cy, r: 2.5 }))));
  }
  return drawing;
}
