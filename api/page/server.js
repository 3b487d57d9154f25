// What this server has: models with their advice, names, sizes, and who we are to it. A route that
// is not there is an empty list.

import { get } from '/page/api.js';
import { given, setDefaults } from '/page/request.js';

export const server = {
  models: [], samplers: [], schedulers: [], sizes: [], adapters: [], controlnets: [], embeddings: [], wildcards: [], me: null, version: '', formats: [], tipo: false,
};

const listeners = new Set();
export const onServer = (run) => listeners.add(run);

export const model = () =>
  server.models.find((each) => each.id === given('model')) ?? server.models.find((each) => each.default) ?? server.models[0];
export const advice = () => ({ defaults: {}, quality: [], undesired: [], samplers: [], schedulers: [], ...model()?.advice });
export const may = (scope) => !server.me || (server.me.scopes ?? []).includes(scope);

async function list(path, name, into = name) {
  try {
    server[into] = (await get(path))[name] ?? [];
  } catch (error) {
    if (error.status !== 404) throw error;
    server[into] = [];
  }
}

/** Sizes and defaults belong to the chosen model. */
export async function modelChanged() {
  const chosen = model();
  await list(`/v1/resolutions${chosen ? `?model=${encodeURIComponent(chosen.id)}` : ''}`, 'resolutions', 'sizes');
  setDefaults(advice().defaults);
  for (const run of listeners) run();
}

export async function load() {
  const me = get('/v1/me').catch((error) => {
    if (error.status === 0 || error.status === 401) throw error;
    return null;
  });
  await Promise.all([
    list('/v1/models', 'data', 'models'), list('/v1/samplers', 'samplers'), list('/v1/schedulers', 'schedulers'),
    list('/v1/adapters', 'adapters'), list('/v1/controlnets', 'controlnets'), list('/v1/embeddings', 'embeddings'), list('/v1/wildcards', 'wildcards'),
    get('/version').then((answer) => { server.version = answer.version; server.formats = answer.formats ?? []; server.tipo = answer.tipo === true; }),
    me.then((answer) => { server.me = answer; }),
  ]);
  await modelChanged();
}
