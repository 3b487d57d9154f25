// The whole server, for a key that may: the queue and who uses it, latency, models, keys, the end.
// It asks every few seconds, and only while it is seen.

import { call, get, post } from '/page/api.js';
import { byId, fill, h } from '/page/dom.js';
import { allJobs, isOver, onJob, shortTime } from '/page/jobs.js';
import { plot } from '/page/plot.js';
import { build as rescan } from '/page/rescan.js';
import { may, server } from '/page/server.js';
import { attempt, toast } from '/page/toast.js';

const EVERY_MS = 5000;
const KEPT = 120; // points of the plot: ten minutes
const SCOPES = ['read', 'generate', 'admin'];

const panel = (title, ...inner) => h('section', { class: 'panel' }, h('h2', {}, title), inner);
const figures = h('div', { class: 'figures' });
const people = h('div');
const latency = h('div');
const models = h('div');
const keys = h('div', { class: 'keys' });
const secret = h('div');
let timer = 0;
let counted = null; // the last reading of /metrics
const history = { work: [], wait: [] };

const figure = (value, label) => h('div', { class: 'figure' }, h('b', {}, value), h('span', {}, label));
const table = (heads, rows) => h('table', {}, h('thead', {}, h('tr', {}, heads.map((each) => h('th', {}, each)))),
  h('tbody', {}, rows.map((row) => h('tr', {}, row.map((each) => h('td', {}, each))))));

// ---- Latency -----------------------------------------------------------------------------------

/** Sum and count of a histogram over all its labels, from Prometheus's text. */
export function histogram(text, name) {
  const total = (ending) => [...text.matchAll(new RegExp(`^${name}_${ending}(?:\\{[^}]*\\})? (\\S+)`, 'gm'))].reduce((sum, [, value]) => sum + Number(value), 0);
  return { sum: total('sum'), count: total('count') };
}

async function measure() {
  let text;
  try {
    text = await (await call('GET', '/metrics')).text();
  } catch {
    return; // no such route, or not for us: the own jobs are plotted
  }
  const now = { wait: histogram(text, 'latentd_queue_wait_seconds'), work: histogram(text, 'latentd_job_stage_seconds') };
  for (const name of ['wait', 'work']) {
    // Waiting is counted once a job, stages several times: both are told by job.
    const jobs = counted ? now.wait.count - counted.wait.count : 0;
    const seconds = counted ? now[name].sum - counted[name].sum : 0;
    history[name].push([Date.now(), jobs > 0 ? seconds / jobs : NaN]);
    history[name].splice(0, history[name].length - KEPT);
  }
  counted = now;
}

function drawLatency() {
  const known = history.work.filter(([, value]) => Number.isFinite(value)).length > 1;
  const own = allJobs().filter((each) => each.status === 'succeeded' && each.started_at && each.finished_at).slice(0, KEPT).reverse();
  const since = (each, from, to) => [Date.parse(each.finished_at), (Date.parse(each[to]) - Date.parse(each[from])) / 1000];
  const work = known ? history.work : own.map((each) => since(each, 'started_at', 'finished_at'));
  const wait = known ? history.wait : own.map((each) => since(each, 'created_at', 'started_at'));
  fill(latency, plot([{ label: 'waiting', points: wait, second: true }, { label: 'painting', points: work }], 's', 'Seconds a job waits and is painted'),
    h('p', { class: 'hint' }, `Seconds of painting a job; dashed: waiting. ${known ? 'All jobs of the last minutes.' : 'Your own last jobs.'}`));
}

// ---- Queue, models, keys -----------------------------------------------------------------------

function drawQueue(queue) {
  fill(figures, figure(queue.running, 'running'), figure(queue.queued, `waiting, of at most ${queue.queued_max}`),
    figure(queue.oldest_queued_at ? shortTime(Date.now() - Date.parse(queue.oldest_queued_at)) : '–', 'longest wait now'));
  fill(people, queue.keys?.length ? table(['Key', 'Running', 'Waiting', 'Pictures today', 'Computed today'], queue.keys.map((each) =>
    [each.name, each.usage.running, each.usage.queued, each.usage.today.images, shortTime(each.usage.today.compute_ms)]))
    : h('p', { class: 'hint' }, 'Nobody has painted yet.'));
}

async function drawModels() {
  server.models = (await get('/v1/models', { headers: { 'Cache-Control': 'no-cache' } })).data;
  const act = (each, what) => h('button', { type: 'button', onclick: () => attempt(async () => {
    await call('POST', `/v1/admin/models/${encodeURIComponent(each.id)}/${what}`);
    toast(what === 'load' ? `${each.id} is being loaded.` : `${each.id} leaves when its jobs have ended.`);
    refresh();
  }) }, what === 'load' ? 'Load' : 'Unload');
  fill(models, table(['Model', 'State', ''], server.models.map((each) =>
    [each.id + (each.default ? ' (default)' : ''), each.loaded ? 'in memory' : 'on disk', act(each, each.loaded ? 'unload' : 'load')])));
}

function drawKeys(list) {
  const live = list.filter((each) => !each.revoked);
  fill(keys, live.length ? table(['Name', 'May', 'Weight', 'Rating', ''], live.map((each) => [each.name, each.scopes.join(', '), each.limits.weight, each.rating,
    each.id === server.me?.id ? 'yours' : h('button', { type: 'button', onclick: (event) => {
      // A second press within the same look: no dialog, and no key lost by a slip.
      if (event.target.dataset.sure) attempt(async () => { await call('DELETE', `/v1/admin/keys?id=${encodeURIComponent(each.id)}`); toast(`${each.name} is revoked.`); refresh(); });
      event.target.dataset.sure = '1';
      event.target.textContent = 'Really revoke';
    } }, 'Revoke')])) : h('p', { class: 'hint' }, 'No keys: everybody who reaches this server may paint.'));
}

function keyForm() {
  const name = h('input', { type: 'text', id: 'new-key', autocomplete: 'off' });
  const weight = h('input', { type: 'number', id: 'new-key-weight', min: 1, value: 10 });
  const scopes = SCOPES.map((scope) => [scope, h('input', { type: 'checkbox', role: 'switch', checked: scope !== 'admin' })]);
  return h('form', { class: 'key-form', onsubmit: (event) => {
    event.preventDefault();
    attempt(async () => {
      const made = await post('/v1/admin/keys', { name: name.value.trim(), scopes: scopes.filter(([, box]) => box.checked).map(([scope]) => scope), weight: weight.valueAsNumber });
      fill(secret, h('div', { class: 'secret' }, h('code', { class: 'mono' }, made.secret),
        h('button', { type: 'button', onclick: () => navigator.clipboard.writeText(made.secret).then(() => toast('Copied.')) }, 'Copy'),
        h('button', { type: 'button', onclick: () => fill(secret) }, 'Hide')), h('p', { class: 'hint' }, 'Shown this once: only its hash is kept.'));
      name.value = '';
      refresh();
    });
  } }, h('div', { class: 'field' }, h('label', { for: 'new-key' }, 'Name of a new key'), name),
  h('div', { class: 'field' }, h('label', { for: 'new-key-weight' }, 'Weight'), weight),
  h('div', { class: 'row' }, scopes.map(([scope, box]) => h('label', { class: 'switch' }, box, h('span', {}, scope))), h('button', { type: 'submit' }, 'Make the key')));
}

let drawnKeys = '';
async function refresh() {
  await attempt(async () => {
    const [queue, list] = await Promise.all([get('/v1/admin/queue'), get('/v1/admin/keys'), drawModels(), measure()]);
    drawQueue(queue);
    const state = JSON.stringify(list.keys);
    if (state !== drawnKeys) drawKeys(list.keys); // else "Really revoke" would be forgotten
    drawnKeys = state;
    drawLatency();
  });
}

export function start() {
  const drain = h('button', { type: 'button', onclick: () => {
    if (!drain.dataset.sure) {
      drain.dataset.sure = '1';
      drain.textContent = 'Really end the server';
      return;
    }
    attempt(async () => { await call('POST', '/v1/admin/drain'); toast('The server takes no more work and ends when its jobs have.'); });
  } }, 'End the server');
  onJob((each) => {
    if (isOver(each) && !byId('admin').hidden) drawLatency(); // until /metrics has a line, the own jobs are it
  });
  fill(byId('admin'), h('div', { class: 'row between head' }, h('h1', {}, 'Admin'), drain),
    h('div', { class: 'panels' }, panel('Queue', figures, people), panel('Latency', latency), panel('Models', models, ...rescan()), panel('Keys', keys, secret, keyForm())));
}

export function enter() {
  clearInterval(timer);
  timer = setInterval(refresh, EVERY_MS);
  if (server.me && may('admin')) refresh();
}

export function leave() {
  clearInterval(timer);
}
