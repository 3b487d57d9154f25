// The request, as it would be sent. Every control of the page is a view of one path of this object
// ("hires.scale"), so taking up a picture's settings is replacing the object, the examples print
// it, and a field that has no control of its own is not lost.

const STORAGE = 'latentd.request';
const DELIVERY = ['preview', 'priority', 'on_disconnect', 'webhook', 'tag', 'user_data', 'output'];

// Of the request table (config/fields.def); a model's own stand over them.
const COMMON = {
  prompt: '', negative_prompt: '', syntax: 'a1111', profile: 'comfy', quality_tags: false, undesired: 'none',
  width: 832, height: 1216, images: 1, steps: 28, cfg_scale: 7, sampler: 'euler_ancestral', scheduler: 'simple',
  seed: -1, noise: 'cpu', clip_skip: 2, vae_tiling: 'auto', emphasis: 'original', pad_context: false,
  'init.strength': 0.7, 'init.resize': 'stretch', 'init.mask_blur': 0, 'init.paste_back': true, 'init.noise': 0,
  'hires.scale': 1.5, 'hires.upscaler': 'latent-bislerp', 'hires.strength': 0.55,
  'deep_shrink.block': 3, 'deep_shrink.factor': 2, 'deep_shrink.start': 0, 'deep_shrink.end': 0.35,
  'deep_shrink.after_skip': true, 'deep_shrink.downscale': 'bicubic', 'deep_shrink.upscale': 'bicubic',
  smea: 'off',
  'control.weight': 1, 'control.start': 0, 'control.end': 1, 'control.mode': 'balanced', 'control.preprocess': 'none',
  'control.resize': 'crop', 'control.passes': 'both',
};
let common = COMMON;

const listeners = new Set();
let request = { prompt: '' };
try {
  request = { prompt: '', ...JSON.parse(localStorage.getItem(STORAGE)) };
} catch { /* a broken store is an empty one */ }

export const onChange = (run) => listeners.add(run);

function changed() {
  try {
    localStorage.setItem(STORAGE, JSON.stringify(request));
  } catch { /* full or forbidden: the page works without */ }
  for (const run of listeners) run();
}

/** A unit's fields have the same defaults at every index. */
export const byDefault = (path) => common[path.replace(/\.\d+\./, '.')];
export const given = (path) => path.split('.').reduce((at, name) => at?.[name], request);
export const value = (path) => given(path) ?? byDefault(path);

/** A default is not written down: it would hide the next model's own. */
export function set(path, wanted) {
  const names = path.split('.');
  const leaf = names.pop();
  let at = request;
  for (const name of names) {
    if (typeof at[name] !== 'object' || at[name] === null) at[name] = {};
    at = at[name];
  }
  const gone = wanted === undefined || wanted === null || (wanted === byDefault(path) && path !== 'prompt');
  if (gone) delete at[leaf];
  else at[leaf] = wanted;
  changed();
}

/** Defaults of the chosen model. */
export function setDefaults(own) {
  common = { ...COMMON, ...own };
  changed();
}

/** Take up other settings whole; the file that is wanted is the person's choice and stays. Objects that are
 * empty stay: their presence means something. */
export function replace(next, output = request.output) {
  const taken = structuredClone(next);
  for (const name of DELIVERY) delete taken[name];
  for (const name of Object.keys(taken)) {
    if (name !== 'prompt' && taken[name] === byDefault(name)) delete taken[name];
  }
  for (const unit of Array.isArray(taken.control) ? taken.control : []) {
    for (const name of Object.keys(unit)) {
      if (unit[name] === byDefault(`control.${name}`)) delete unit[name];
    }
  }
  request = { prompt: '', ...taken, ...(output && Object.keys(output).length ? { output } : {}) };
  changed();
}

export const body = () => structuredClone(request);

/** Two settings, told apart: [path, of a, of b] of all leaves that differ. */
export function differences(a, b) {
  const left = leaves(a);
  const right = leaves(b);
  const paths = [...new Set([...left.keys(), ...right.keys()])];
  return paths.filter((path) => left.get(path) !== right.get(path))
    .map((path) => [path, left.get(path) ?? '', right.get(path) ?? '']);
}

/** A ControlNet with what is not usual of it. */
const unitText = ({ model, weight = 1, image, ...rest }) => [`${model} ${weight}`,
  ...Object.entries(rest).filter(([name, inner]) => inner !== byDefault(`control.${name}`)).map(([name, inner]) => `${name} ${inner}`)].join(' ');

/** Map from path to text of everything that decides a picture. */
export function leaves(settings) {
  const found = new Map();
  const walk = (at, path) => {
    for (const [name, inner] of Object.entries(at)) {
      const here = path ? `${path}.${name}` : name;
      if (!path && DELIVERY.includes(name)) continue;
      if (name === 'loras' && Array.isArray(inner)) found.set(here, inner.map((each) => `${each.name} ${each.weight ?? 1}`).join(', '));
      else if (name === 'control' && Array.isArray(inner)) found.set(here, inner.map(unitText).join(', '));
      else if (inner !== null && typeof inner === 'object' && !Array.isArray(inner) && Object.keys(inner).length) walk(inner, here);
      else found.set(here, typeof inner === 'string' ? inner : JSON.stringify(inner));
    }
  };
  walk(settings, '');
  return found;
}
