// One picture large, with the settings that made it and what can be done with it.

import { call, pictureBlob, pictureType, showPicture } from '/page/api.js';
import { chooseToCompare } from '/page/compare.js';
import { useAsHint } from '/page/control.js';
import { fill, h } from '/page/dom.js';
import { allJobs, isCell, job, remove } from '/page/jobs.js';
import { leaves } from '/page/request.js';
import { restore } from '/page/restore.js';
import { server } from '/page/server.js';
import { useAsSource } from '/page/source.js';
import { attempt, toast } from '/page/toast.js';

const QUIET = { syntax: 'a1111', profile: 'comfy', noise: 'cpu', vae_tiling: 'auto', emphasis: 'original', images: '1' };

const dialog = h('dialog', { class: 'viewer', 'aria-label': 'Picture' });
let at = { id: '', index: 0 };

/** Under its seed: fetched first, for the server's own name of a file goes before the link's. */
export async function download(picture) {
  const blob = await pictureBlob(picture.url);
  const url = URL.createObjectURL(blob);
  h('a', { href: url, download: `latentd-${picture.seed}.${{ 'image/webp': 'webp', 'image/jpeg': 'jpg' }[blob.type] ?? 'png'}` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

/** All pictures that can be walked through: [job, index], newest first. */
const walk = () => allJobs().filter((each) => !isCell(each)).flatMap((each) => (each.images ?? []).map((_, index) => [each, index]));

function step(by) {
  const all = walk();
  const now = all.findIndex(([each, index]) => each.id === at.id && index === at.index);
  const next = all[now + by];
  if (next) openViewer(next[0].id, next[1]);
}

async function replay(picture, said) {
  said.textContent = 'Painting it again…';
  const bytes = await attempt(() => pictureBlob(picture.url));
  const answer = bytes && await attempt(async () => (await call('POST', '/v1/replay?wait=120', { body: bytes, type: pictureType(bytes) })).json());
  if (!answer) said.textContent = '';
  else if (answer.identical === undefined) said.textContent = 'It is in the queue.';
  else said.textContent = answer.identical ? 'Painted again: every byte is the same.' : `Painted again, and it differs: ${(answer.differences ?? []).map((each) => each.message ?? each.field ?? String(each)).join('; ') || 'no reason known'}.`;
}

function settings(request) {
  const rows = [...leaves(request)].filter(([name, text]) => QUIET[name] !== text && !/^(negative_)?prompt$/.test(name) && text !== '');
  return h('dl', {}, rows.map(([name, text]) => h('div', {}, h('dt', {}, name.replaceAll('_', ' ')), h('dd', {}, text))));
}

/** Settings of picture `index` alone: its own seed, one picture. */
export function settingsOf(each, index) {
  const picture = each.images?.[index];
  const { images, ...request } = each.request;
  return { ...request, seed: picture?.seed ?? request.seed };
}

export function openViewer(id, index = 0) {
  const each = job(id);
  const picture = each?.images?.[index];
  if (!picture) return;
  at = { id, index };
  const said = h('p', { class: 'hint', role: 'status' });
  const act = (label, run, more = {}) => h('button', { type: 'button', onclick: run, ...more }, label);
  const close = () => dialog.close();
  const use = async (take) => {
    close();
    location.hash = '#create';
    const blob = await attempt(() => pictureBlob(picture.url));
    if (blob) await take(blob);
  };
  fill(dialog,
    h('div', { class: 'viewer-picture' }, showPicture(h('img', { alt: each.request?.prompt ?? '' }), picture.url)),
    h('div', { class: 'viewer-side' },
      h('div', { class: 'row between' },
        h('span', {}, act('‹', () => step(-1), { 'aria-label': 'Newer', class: 'quiet' }), act('›', () => step(1), { 'aria-label': 'Older', class: 'quiet' })),
        act('Close', close, { class: 'quiet' })),
      h('p', { class: 'viewer-prompt' }, each.request?.prompt ?? ''),
      each.request?.negative_prompt && h('p', { class: 'hint' }, `Without: ${each.request.negative_prompt}`),
      h('div', { class: 'row' },
        act('Use settings', () => { restore(settingsOf(each, index), 'from this picture'); close(); location.hash = '#create'; }, { class: 'primary', id: 'use-settings' }),
        act('Download', () => attempt(() => download(picture)), { id: 'download' }),
        act('Start from it', () => use(useAsSource)),
        server.controlnets.length > 0 && act('Follow it', () => use(useAsHint), { title: 'As the picture of a ControlNet' }),
        act('Compare', () => { chooseToCompare(id, index); close(); }),
        act('Paint again', () => replay(picture, said), { title: 'Paints it again and says whether every byte is the same' }),
        act('Delete', async () => {
          if (await attempt(async () => { await remove(id); return true; })) {
            close();
            toast('Deleted.');
          }
        })),
      said, settings(each.request ?? {}),
      each.warnings?.length ? h('ul', { class: 'notes' }, each.warnings.map((warning) => h('li', {}, typeof warning === 'string' ? warning : warning.message ?? JSON.stringify(warning)))) : null));
  if (!dialog.open) {
    if (!dialog.isConnected) document.body.append(dialog);
    dialog.showModal();
  }
}

dialog.addEventListener('keydown', (event) => {
  if (event.key === 'ArrowLeft') step(-1);
  else if (event.key === 'ArrowRight') step(1);
});
dialog.addEventListener('click', (event) => { // on the backdrop
  if (event.target === dialog) dialog.close();
});
