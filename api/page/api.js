// Every word with the server passes here: the key goes into a header (never into a URL), refusals
// become one kind of error, and a server that cannot be reached is told to whoever listens.

const KEY = 'latentd.key';
const stores = () => [sessionStorage, localStorage];

export const key = {
  get: () => stores().map((store) => store.getItem(KEY)).find(Boolean) ?? '',
  /** Kept for the tab, or for the browser where `remember` is set; "" forgets it. */
  set(text, remember) {
    for (const store of stores()) store.removeItem(KEY);
    if (text) (remember ? localStorage : sessionStorage).setItem(KEY, text);
    for (const url of pictures.values()) url.then(URL.revokeObjectURL, () => {});
    pictures.clear();
  },
};

/** RFC 9457: `status` 0 is a server that did not answer. */
export class Problem extends Error {
  constructor(status, detail, errors = [], retryAfter = 0) {
    super(detail);
    Object.assign(this, { status, errors, retryAfter });
  }
}

const signals = new EventTarget();
let reachable = true;

/** 'reachable' with detail true or false, 'unauthorized'. */
export const listen = (name, run) => signals.addEventListener(name, (event) => run(event.detail));

export function setReachable(now) {
  if (now === reachable) return;
  reachable = now;
  signals.dispatchEvent(new CustomEvent('reachable', { detail: now }));
}

async function problemOf(answer) {
  let document = {};
  try {
    document = await answer.json();
  } catch { /* a proxy's page: the status is all there is */ }
  const errors = (document.errors ?? []).filter((error) => typeof error.message === 'string');
  const detail = document.detail ?? errors[0]?.message ?? `the server answered ${answer.status}`;
  return new Problem(answer.status, detail, errors, Number(answer.headers.get('Retry-After')) || 0);
}

/** The answer of a call that went well; a Problem otherwise. */
export async function call(method, path, { body, type, signal, headers = {} } = {}) {
  const sent = { ...headers };
  const mine = key.get();
  if (mine) sent.Authorization = `Bearer ${mine}`;
  const json = body !== undefined && !(body instanceof Blob);
  if (body !== undefined) sent['Content-Type'] = type ?? (json ? 'application/json' : body.type);
  let answer;
  try {
    answer = await fetch(path, { method, headers: sent, body: json ? JSON.stringify(body) : body, signal });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    setReachable(false);
    throw new Problem(0, 'the server cannot be reached');
  }
  setReachable(true);
  if (answer.ok) return answer;
  const problem = await problemOf(answer);
  // Only of the key that is in use now: a late answer to the one before must not ask again.
  if (answer.status === 401 && mine === key.get()) signals.dispatchEvent(new CustomEvent('unauthorized'));
  throw problem;
}

export const get = async (path, options) => (await call('GET', path, options)).json();
export const post = async (path, body, options) => (await call('POST', path, { body, ...options })).json();

// ---- Pictures ----------------------------------------------------------------------------------

// An <img> cannot send a key, so with one its bytes are fetched and shown from memory.
const PICTURES_KEPT = 200;
const pictures = new Map();

export async function pictureUrl(path) {
  if (!key.get()) return path;
  if (!pictures.has(path)) {
    pictures.set(path, call('GET', path).then(async (answer) => URL.createObjectURL(await answer.blob())));
    pictures.get(path).catch(() => pictures.delete(path));
    const [oldest, url] = pictures.entries().next().value;
    if (pictures.size > PICTURES_KEPT) {
      pictures.delete(oldest);
      url.then(URL.revokeObjectURL, () => {});
    }
  }
  return pictures.get(path);
}

/** What a picture is sent as; the server looks at its bytes. */
export const pictureType = (file) => (/^image\/(jpeg|webp)$/.test(file.type) ? file.type : 'image/png');

export const pictureBlob = async (path) => (await call('GET', path)).blob();

export function showPicture(image, path) {
  image.dataset.path = path;
  pictureUrl(path).then((url) => {
    if (image.dataset.path === path) image.src = url;
  }, () => { image.alt = 'this picture is gone'; });
  return image;
}
