// The jobs this page knows, kept current by the event stream; where no stream can be had, by asking.

import { call, get, post } from '/page/api.js';
import { follow } from '/page/events.js';

const POLL_MS = 2000;
const jobs = new Map(); // id -> document, with `preview` (a data: URL), `heard` (ms) and `own` (submitted here)
const listeners = new Set();
let stream = null;

export const onJob = (run) => listeners.add(run);
export const job = (id) => jobs.get(id);
export const isOver = (each) => ['succeeded', 'failed', 'cancelled', 'expired'].includes(each.status);
/** Newest first. */
export const allJobs = () => [...jobs.values()].sort((a, b) => (a.created_at < b.created_at ? 1 : -1));
export const openJobs = () => allJobs().filter((each) => !isOver(each)).reverse();
/** A sweep's cells are seen on its sheet. */
export const isCell = (each) => Boolean(each.parent);

function tell(each) {
  for (const run of listeners) run(each);
}

function merge(document) {
  const known = jobs.get(document.id);
  // A list that was on its way while the job ended must not make it run again.
  if (known && isOver(known) && !isOver(document)) return known;
  const each = Object.assign(known ?? {}, document, { heard: Date.now() });
  if (isOver(each)) {
    delete each.preview;
    delete each.eta_ms;
  }
  jobs.set(each.id, each);
  tell(each);
  return each;
}

function onEvent(name, data) {
  if (name === 'done') {
    merge(data);
    return;
  }
  const each = jobs.get(data.job);
  if (!each) { // of another tab or program with our key
    if (name === 'status') refresh(data.job);
    return;
  }
  if (isOver(each)) return;
  each.heard = Date.now();
  if (name === 'status') Object.assign(each, { status: data.status, position: data.position });
  else if (name === 'progress') Object.assign(each, { status: each.status === 'queued' ? 'running' : each.status, progress: data.progress, eta_ms: data.eta_ms });
  else if (name === 'preview' && /^image\/(png|jpeg|webp)$/.test(data.type)) each.preview = `data:${data.type};base64,${data.base64}`;
  tell(each);
}

export async function refresh(id) {
  try {
    return merge(await get(`/v1/jobs/${id}`));
  } catch (error) {
    if (error.status === 404 || error.status === 410) forget(id);
    return null;
  }
}

/** One page of the own jobs, newest first; the cursor of the next one, or undefined. */
export async function loadPage(cursor) {
  const page = await get(`/v1/jobs?limit=40${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ''}`);
  page.jobs.forEach(merge);
  return page.next;
}

async function catchUp() {
  try {
    await loadPage();
    await Promise.all(openJobs().map((each) => refresh(each.id)));
  } catch { /* the banner tells */ }
}

export function start() {
  if (stream) return;
  stream = follow(onEvent, catchUp);
  setInterval(() => {
    if (!stream.isOpen()) openJobs().forEach((each) => refresh(each.id));
  }, POLL_MS);
}

/** Another key: another person's jobs. */
export function restart() {
  jobs.clear();
  stream?.restart();
}

export async function submit(request) {
  const each = merge(await post('/v1/jobs', request));
  each.own = true;
  return each;
}

export async function cancel(id, keepPartial = false) {
  const answer = await post(`/v1/jobs/${id}/cancel`, { keep_partial: keepPartial });
  if (answer.id) merge(answer);
  else refresh(id);
}

export async function remove(id) {
  await call('DELETE', `/v1/jobs/${id}`);
  forget(id);
}

function forget(id) {
  const each = jobs.get(id);
  jobs.delete(id);
  if (each) tell({ ...each, status: 'forgotten' });
}

// ---- Words for people --------------------------------------------------------------------------

export const shortTime = (ms) => {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60 ? `${seconds % 60} s` : ''}`.trim();
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
};

/** What a job is doing now, in a line. */
export function statusLine(each) {
  const progress = each.progress ?? {};
  if (each.status === 'queued') return each.position > 0 ? `Waiting, ${each.position} ahead` : 'Waiting for its turn';
  if (each.status === 'cancelling') return 'Stopping';
  if (each.status === 'failed') return `Failed: ${each.error?.detail ?? each.error?.code ?? 'no reason given'}`;
  if (isOver(each)) return each.status[0].toUpperCase() + each.status.slice(1);
  const parts = [];
  if (progress.images > 1) parts.push(`Picture ${Math.min(progress.image + 1, progress.images)} of ${progress.images}`);
  if (progress.phase === 'sample' && progress.steps) parts.push(`Step ${progress.step} of ${progress.steps}`);
  else parts.push({ load: 'Loading the model', text: 'Reading the prompt', encode: each.request?.init ? 'Reading the picture' : 'Reading the prompt', decode: 'Developing', done: 'Finishing' }[progress.phase] ?? 'Painting');
  if (each.eta_ms > 0) {
    const left = each.eta_ms - (Date.now() - each.heard);
    if (left > 0) parts.push(`${shortTime(left)} left`);
  }
  return parts.join(' · ');
}
