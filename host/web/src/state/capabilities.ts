import type { PluginSummary } from '../api/types';

/** Whether a plugin has a capability. Told as a list of names, or as an object of facts of which the true ones count. */
export function can(plugin: PluginSummary | undefined, capability: string): boolean {
  const capabilities = plugin?.capabilities;
  if (!capabilities) return false;
  return Array.isArray(capabilities) ? capabilities.includes(capability) : capabilities[capability] === true;
}
