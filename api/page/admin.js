// Keys, queue, models and latency of the whole server, for an admin key.
import { byId } from '/page/dom.js';
export const exists = () => false;
export function start() { byId('admin'); }
export function enter() {}
export function leave() {}
