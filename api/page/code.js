// The request on screen as a program would send it: curl, JavaScript, Python.

import { fold } from '/page/controls.js';
import { fill, h } from '/page/dom.js';
import { key } from '/page/api.js';
import { body, onChange } from '/page/request.js';
import { toast } from '/page/toast.js';

const shell = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** A JSON value as Python writes it. */
function python(value, indent = '') {
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'number') return String(value);
  const deeper = `${indent}    `;
  if (Array.isArray(value)) return `[${value.map((each) => python(each, deeper)).join(', ')}]`;
  const rows = Object.entries(value).map(([name, inner]) => `${deeper}${JSON.stringify(name)}: ${python(inner, deeper)},`);
  return rows.length ? `{\n${rows.join('\n')}\n${indent}}` : '{}';
}

/** Media type and file name of what the request asks for. */
function fileOf(request) {
  const format = request.output?.format ?? 'png';
  return { type: `image/${format}`, name: `out.${format === 'jpeg' ? 'jpg' : format}` };
}

export const examples = {
  curl(request, origin, withKey) {
    const file = fileOf(request);
    return [`curl -sS ${origin}/v1/jobs \\`,
      `     -H 'Content-Type: application/json' -H 'Accept: ${file.type}' \\`,
      ...(withKey ? ['     -H "Authorization: Bearer $LATENTD_KEY" \\'] : []),
      `     -d ${shell(JSON.stringify(request))} -o ${file.name}`].join('\n');
  },
  JavaScript(request, origin, withKey) {
    const file = fileOf(request);
    return [`const answer = await fetch('${origin}/v1/jobs', {`,
      "  method: 'POST',",
      `  headers: { 'Content-Type': 'application/json', Accept: '${file.type}'${withKey ? ', Authorization: `Bearer ${process.env.LATENTD_KEY}`' : ''} },`,
      `  body: JSON.stringify(${JSON.stringify(request, null, 2).replaceAll('\n', '\n  ')}),`,
      '});',
      'if (!answer.ok) throw new Error((await answer.json()).detail);',
      `await (await import('node:fs/promises')).writeFile('${file.name}', Buffer.from(await answer.arrayBuffer()));`].join('\n');
  },
  Python(request, origin, withKey) {
    const file = fileOf(request);
    return [`import json${withKey ? ', os' : ''}, urllib.request`, '',
      `request = ${python(request)}`,
      `call = urllib.request.Request("${origin}/v1/jobs", json.dumps(request).encode(), {`,
      `    "Content-Type": "application/json", "Accept": "${file.type}",`,
      ...(withKey ? ['    "Authorization": "Bearer " + os.environ["LATENTD_KEY"],'] : []),
      '})',
      `with urllib.request.urlopen(call) as answer, open("${file.name}", "wb") as file:`,
      '    file.write(answer.read())'].join('\n');
  },
};

export function build() {
  const shown = h('pre', { tabIndex: 0, id: 'code-text' });
  let language = 'curl';
  const tabs = h('div', { class: 'chips', role: 'group', 'aria-label': 'Language' });
  const draw = () => {
    fill(tabs, Object.keys(examples).map((name) => h('button', {
      type: 'button', class: 'chip', 'aria-pressed': String(name === language), onclick: () => { language = name; draw(); },
    }, name)));
    shown.textContent = examples[language](body(), location.origin, Boolean(key.get()));
  };
  const folded = fold('As a program', () => 'curl, JavaScript, Python', h('div', { class: 'row between' }, tabs,
    h('button', { type: 'button', onclick: async () => {
      await navigator.clipboard.writeText(shown.textContent);
      toast('Copied.');
    } }, 'Copy')), shown);
  const update = () => {
    if (folded.open) draw();
  };
  folded.addEventListener('toggle', update);
  onChange(update);
  return folded;
}
