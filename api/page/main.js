// Puts the page together: what is drawn where, what a submit does, which view is seen, and what
// happens when the server goes and comes back.

import * as account from '/page/account.js';
import * as adapters from '/page/adapters.js';
import { listen } from '/page/api.js';
import * as chips from '/page/chips.js';
import * as code from '/page/code.js';
import * as control from '/page/control.js';
import { clearErrors, showErrors } from '/page/controls.js';
import { byId, fill, h } from '/page/dom.js';
import * as gallery from '/page/gallery.js';
import * as high from '/page/high.js';
import * as jobs from '/page/jobs.js';
import * as more from '/page/more.js';
import * as plan from '/page/plan.js';
import * as prompt from '/page/prompt.js';
import * as queue from '/page/queue.js';
import { body, onChange, set, value } from '/page/request.js';
import * as restore from '/page/restore.js';
import * as sampling from '/page/sampling.js';
import { load, may, onServer, server } from '/page/server.js';
import * as size from '/page/size.js';
import * as source from '/page/source.js';
import * as stage from '/page/stage.js';
import * as sweep from '/page/sweep.js';
import { attempt, toast } from '/page/toast.js';

const PREVIEWS = 6; // pictures of the work in progress, over all steps
const PREVIEW_SIDE_MAX = 512;
const NOTES_MAX = 4;

// Few may see the administration: its modules come when it is opened, and are built once however often
// it is opened while they come. What could not be fetched is asked for again.
let administration = null;
let coming = null;
const admin = {
  enter: () => attempt(async () => {
    coming ??= import('/page/admin.js').then((module) => {
      module.start();
      administration = module;
    }).catch((error) => {
      coming = null;
      throw error;
    });
    await coming;
    if (!byId('admin').hidden) administration.enter();
  }),
  leave: () => administration?.leave(),
};
const views = { create: null, gallery, queue, admin };

// ---- Painting ----------------------------------------------------------------------------------

function toSend() {
  const request = body();
  const every = Math.max(1, Math.round(value('steps') / PREVIEWS));
  const size = Math.max(64, Math.min(PREVIEW_SIDE_MAX, Math.max(value('width'), value('height'))));
  const format = server.formats.includes('jpeg') ? 'jpeg' : 'png'; // a tenth of the bytes
  return { ...request, preview: { every, size, format } };
}

async function paint() {
  clearErrors();
  notes([]);
  try {
    stage.submitted(await jobs.submit(toSend()));
    // On a phone the picture is below the fold.
    if (matchMedia('(max-width: 56rem)').matches) byId('stage').scrollIntoView({ behavior: 'smooth', block: 'center' });
  } catch (error) {
    if (error.status === undefined) throw error;
    const homeless = error.errors?.length ? showErrors(error.errors) : [error.message];
    if (error.retryAfter) homeless.push(`Try again in ${error.retryAfter} s.`);
    notes(homeless, true);
  }
}

function notes(sentences, wrong = false) {
  fill(byId('notes'), sentences.slice(0, NOTES_MAX).map((text) => h('li', { class: wrong ? 'error' : '' }, text)));
}

function buildPaintBar() {
  const count = h('input', { type: 'number', min: 1, max: 16, id: 'images', 'aria-label': 'Number of pictures', title: 'Number of pictures' });
  const cost = h('span', { class: 'cost', id: 'cost' });
  count.addEventListener('input', () => set('images', Number.isFinite(count.valueAsNumber) ? count.valueAsNumber : undefined));
  const update = () => {
    if (document.activeElement !== count) count.value = value('images');
    const cells = sweep.cells();
    byId('paint').textContent = cells > 1 ? `Paint ${cells} cells` : value('images') > 1 ? `Paint ${value('images')}` : 'Paint';
  };
  onChange(update);
  plan.onPlan((answer, problem) => {
    cost.textContent = answer?.seconds ? `about ${jobs.shortTime(answer.seconds * 1000)}` : '';
    cost.title = answer?.memory_bytes ? `${Math.ceil(answer.memory_bytes / 2 ** 20)} MiB of memory` : '';
    if (problem) notes(showErrors(problem.errors), true);
    else {
      clearErrors();
      notes((answer?.warnings ?? []).map((each) => (typeof each === 'string' ? each : each.message ?? JSON.stringify(each))));
    }
  });
  fill(byId('paint-side'), h('label', { class: 'times', 'data-pointer': '/images' }, '×', count), cost);
  byId('compose').addEventListener('submit', (event) => {
    event.preventDefault();
    paint();
  });
  addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey) && !document.querySelector('dialog[open]')) {
      event.preventDefault();
      paint();
    }
  });
}

// ---- Views -------------------------------------------------------------------------------------

function route() {
  const wanted = Object.keys(views).includes(location.hash.slice(1)) ? location.hash.slice(1) : 'create';
  for (const name of Object.keys(views)) {
    byId(name).hidden = name !== wanted;
    if (name === wanted) byId(`nav-${name}`).setAttribute('aria-current', 'page');
    else byId(`nav-${name}`).removeAttribute('aria-current');
    if (name !== wanted) views[name]?.leave?.();
  }
  views[wanted]?.enter();
}

// ---- The server --------------------------------------------------------------------------------

let loaded = false;

async function loadAll() {
  try {
    await load();
    loaded = true;
    jobs.start();
  } catch (error) {
    if (error.status === undefined) throw error;
    if (error.status !== 0 && error.status !== 401) toast(error.message);
  }
}

function watchServer() {
  const banner = byId('banner');
  listen('reachable', (now) => {
    banner.textContent = now ? '' : 'The server does not answer. The page tries again by itself; nothing you wrote is lost.';
    banner.hidden = now;
    if (now) loadAll(); // it may have come back with other models
  });
  setInterval(() => {
    if (!loaded && !banner.hidden) loadAll();
  }, 2000);
}

function start() {
  account.start(() => {
    jobs.restart();
    gallery.reset();
    loadAll();
  });
  prompt.start();
  chips.start();
  size.start();
  buildPaintBar();
  fill(byId('details'), sampling.build(), adapters.build(), source.build(), control.build(), high.build(), sweep.build(), more.build(), code.build());
  stage.start();
  gallery.start();
  queue.start();
  restore.start();
  onServer(() => {
    byId('nav-admin').hidden = !(server.me && may('admin'));
    if (!byId('admin').hidden) admin.enter(); // the page was opened there, before the key was known
  });
  addEventListener('hashchange', route);
  route();
  watchServer();
  plan.start();
  set('prompt', value('prompt')); // every control draws itself once
  loadAll();
}

start();
