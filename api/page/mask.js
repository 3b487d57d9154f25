// The mask brush: what is painted here is painted anew. Strokes are kept as points, so undo is
// drawing all but the last again. By keyboard: arrows move the brush, Space paints, E erases.

import { h } from '/page/dom.js';

const TINT = 'rgb(18 121 108 / 55%)';

/** Strokes onto a canvas in one colour; an eraser takes away. */
function paint(context, strokes, colour) {
  const { width, height } = context.canvas;
  context.clearRect(0, 0, width, height);
  context.lineCap = 'round';
  context.lineJoin = 'round';
  for (const stroke of strokes) {
    context.globalCompositeOperation = stroke.erase ? 'destination-out' : 'source-over';
    context.strokeStyle = colour;
    context.fillStyle = colour;
    if (stroke.all) {
      context.fillRect(0, 0, width, height);
      continue;
    }
    context.lineWidth = stroke.size;
    context.beginPath();
    context.moveTo(stroke.points[0], stroke.points[1]);
    // A click is a line of no length, which round caps make a dot.
    for (let i = 0; i < stroke.points.length; i += 2) context.lineTo(stroke.points[i], stroke.points[i + 1]);
    context.stroke();
  }
  context.globalCompositeOperation = 'source-over';
}

function rendered(strokes, width, height) {
  const white = Object.assign(document.createElement('canvas'), { width, height });
  paint(white.getContext('2d'), strokes, '#fff');
  const mask = Object.assign(document.createElement('canvas'), { width, height });
  const context = mask.getContext('2d');
  context.fillStyle = '#000';
  context.fillRect(0, 0, width, height);
  context.drawImage(white, 0, 0);
  return mask;
}

/** Resolves to {strokes, mask: canvas or null if nothing is painted}, or null if it was dismissed. */
export function editMask(picture, before) {
  const { width, height } = picture;
  let strokes = [...before];
  let erase = false;
  let current = null;
  let cursor = [width / 2, height / 2];
  const layer = Object.assign(document.createElement('canvas'), { width, height, className: 'mask-layer', tabIndex: 0 });
  layer.setAttribute('aria-label', 'Mask. Arrow keys move the brush, Space paints, E erases, Control Z undoes.');
  layer.setAttribute('role', 'application');
  const below = Object.assign(document.createElement('canvas'), { width, height });
  below.getContext('2d').drawImage(picture, 0, 0);
  const ring = h('span', { class: 'ring', hidden: true });
  const size = h('input', { type: 'range', min: 2, max: Math.round(Math.max(width, height) / 3), value: Math.round(Math.max(width, height) / 12), 'aria-label': 'Size of the brush' });
  const eraser = h('button', { type: 'button', 'aria-pressed': 'false', onclick: () => toggle() }, 'Erase');
  const context = layer.getContext('2d');
  const draw = () => {
    // The tint is put on once over all strokes: overlapping ones must not look stronger.
    paint(context, strokes, '#fff');
    context.globalCompositeOperation = 'source-in';
    context.fillStyle = TINT;
    context.fillRect(0, 0, width, height);
    context.globalCompositeOperation = 'source-over';
  };
  const toggle = () => {
    erase = !erase;
    eraser.setAttribute('aria-pressed', String(erase));
  };
  const undo = () => { strokes.pop(); draw(); };
  const add = (x, y) => { strokes.push({ erase, size: size.valueAsNumber, points: [x, y] }); draw(); };

  const place = (event) => {
    const box = layer.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height];
  };
  const showRing = () => {
    const scale = layer.getBoundingClientRect().width / width;
    const across = size.valueAsNumber * scale;
    ring.hidden = false;
    Object.assign(ring.style, { width: `${across}px`, height: `${across}px`, left: `${cursor[0] * scale - across / 2}px`, top: `${cursor[1] * scale - across / 2}px` });
  };
  layer.addEventListener('pointerdown', (event) => {
    layer.setPointerCapture(event.pointerId);
    layer.focus();
    add(...place(event));
    current = strokes.at(-1);
    event.preventDefault();
  });
  layer.addEventListener('pointermove', (event) => {
    cursor = place(event);
    showRing();
    if (!current) return;
    const moved = event.getCoalescedEvents?.() ?? [];
    for (const each of moved.length ? moved : [event]) current.points.push(...place(each));
    draw();
  });
  for (const name of ['pointerup', 'pointercancel']) layer.addEventListener(name, () => { current = null; });
  layer.addEventListener('pointerleave', () => { ring.hidden = true; });
  layer.addEventListener('keydown', (event) => {
    const step = size.valueAsNumber / (event.shiftKey ? 8 : 2);
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    cursor = [Math.min(width, Math.max(0, cursor[0] + dx * step)), Math.min(height, Math.max(0, cursor[1] + dy * step))];
    if (event.key === ' ') add(...cursor);
    else if (event.key === 'e') toggle();
    else if (event.key === 'z' && (event.ctrlKey || event.metaKey)) undo();
    else if (!dx && !dy) return;
    event.preventDefault();
    showRing();
  });

  return new Promise((resolve) => {
    let result = null;
    const dialog = h('dialog', { class: 'mask-dialog', 'aria-label': 'Mask', onclose: () => { dialog.remove(); resolve(result); } },
      h('p', { class: 'hint' }, 'Paint over what should be painted anew.'),
      h('div', { class: 'mask-stack' }, below, layer, ring),
      h('div', { class: 'row' }, h('label', { class: 'brush' }, 'Brush', size), eraser,
        h('button', { type: 'button', onclick: undo }, 'Undo'),
        h('button', { type: 'button', onclick: () => { strokes = []; draw(); } }, 'Clear'),
        h('button', { type: 'button', onclick: () => { strokes = [{ all: true }, ...strokes.filter((each) => !each.all).map((each) => ({ ...each, erase: !each.erase }))]; draw(); } }, 'Invert')),
      h('div', { class: 'row end' },
        h('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel'),
        h('button', { type: 'button', class: 'primary', id: 'mask-done', onclick: () => {
          result = { strokes, mask: strokes.length ? rendered(strokes, width, height) : null };
          dialog.close();
        } }, 'Use this mask')));
    document.body.append(dialog);
    dialog.showModal();
    draw();
    layer.focus();
  });
}
