// What the present request would cost, asked of the server a moment after every change: tokens,
// seconds, memory, and its advice. One question serves them all.

import { post } from '/page/api.js';
import { debounce } from '/page/dom.js';
import { body, onChange } from '/page/request.js';

const WAIT_MS = 350;
const listeners = new Set();
let asking = new AbortController();
let quietUntil = 0;
let asked = '';

export const onPlan = (run) => listeners.add(run);

function tell(plan, problem) {
  for (const run of listeners) run(plan, problem);
}

async function ask() {
  const request = body();
  delete request.sweep; // a plan is for one picture
  // ControlNets are judged once each has its picture: one just added would be refused at every word.
  if (!request.init && request.control?.some((unit) => !unit.image)) delete request.control;
  const text = JSON.stringify(request);
  if (text === asked || Date.now() < quietUntil) return;
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  if (!request.prompt) {
    asked = '';
    tell(null, null);
    return;
  }
  try {
    const plan = await post('/v1/plan', request, { signal });
    asked = text;
    tell(plan, null);
  } catch (error) {
    if (error.name === 'AbortError') return;
    // Too many questions: the answer is worth less than the next job.
    if (error.status === 429) quietUntil = Date.now() + Math.max(error.retryAfter, 2) * 1000;
    tell(null, error.status === 422 ? error : null);
  }
}

export function start() {
  const soon = debounce(WAIT_MS, ask);
  onChange(soon);
  soon();
}
