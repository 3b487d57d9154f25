// The server's event stream, read with fetch because EventSource cannot send a key. It resumes where
// it stopped, comes back after a dead server with growing pauses, and tells when something may have
// been missed.

import { call, setReachable } from '/page/api.js';

const PAUSE_FIRST_MS = 500;
const PAUSE_MAX_MS = 8000;
const SILENCE_MS = 40000; // the server pings every 15 s

/** onEvent(name, data); onOpen() each time a stream begins: ask for what happened in between. */
export function follow(onEvent, onOpen) {
  let last = '';
  let pause = PAUSE_FIRST_MS;
  let wanted = true;
  let abort = new AbortController();
  let open = false;

  async function once() {
    abort = new AbortController();
    let watchdog = 0;
    const alive = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => abort.abort(), SILENCE_MS);
    };
    alive();
    try {
      const headers = { Accept: 'text/event-stream', ...(last && { 'Last-Event-ID': last }) };
      const answer = await call('GET', '/v1/events', { headers, signal: abort.signal });
      open = true;
      onOpen();
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = '';
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        alive();
        pause = PAUSE_FIRST_MS;
        const blocks = (rest + value).split('\n\n');
        rest = blocks.pop();
        blocks.forEach(take);
      }
    } finally {
      open = false;
      clearTimeout(watchdog);
    }
  }

  function take(block) {
    const fields = {};
    for (const line of block.split('\n')) {
      const colon = line.indexOf(':');
      if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 1).trimStart();
    }
    if (fields.id) last = fields.id;
    if (fields.event && fields.data) onEvent(fields.event, JSON.parse(fields.data));
  }

  async function forever() {
    while (wanted) {
      try {
        await once();
      } catch (error) {
        if (error.status === undefined && error.name !== 'AbortError') setReachable(false); // cut in the middle
        if (error.status === 400) last = ''; // ids of another life of the server
        pause = Math.max(pause, (error.retryAfter ?? 0) * 1000);
      }
      await new Promise((done) => { setTimeout(done, pause); });
      pause = Math.min(pause * 2, PAUSE_MAX_MS);
    }
  }

  forever();
  return {
    isOpen: () => open,
    restart() {
      last = '';
      pause = PAUSE_FIRST_MS;
      abort.abort();
    },
  };
}
