/** The fields of the create form, by their names on the wire. */
export const FORM_FIELDS = ['repo_path', 'prompt', 'agent', 'backend', 'model', 'name', 'base_branch'] as const;

export type FormField = (typeof FORM_FIELDS)[number];

/**
 * The field that an error message of the server is about. The server names it by its path on the wire, or repeats the value
 * that it refuses (as the folder in "… is not a git repository"); null when it does neither.
 */
export function fieldOf(message: string, values: Partial<Record<FormField, string>>): FormField | null {
  let first: { field: FormField; at: number } | null = null;
  for (const field of FORM_FIELDS) {
    const at = message.search(new RegExp(`(^|[^\\w/.-])${field}($|[^\\w/-])`));
    if (at >= 0 && (!first || at < first.at)) first = { field, at };
  }
  // `name`, `agent` and the like are also plain words: only a message that begins with one, or quotes it, surely means the field.
  if (first && (first.at === 0 || first.field.includes('_') || message.includes(`\`${first.field}\``)))
    return first.field;
  if (/^repositories\[/.test(message)) return message.includes('.base_branch') ? 'base_branch' : 'repo_path';
  const repeated = FORM_FIELDS.filter((field) => {
    const value = values[field]?.trim();
    return value && value.length > 1 && field !== 'prompt' && message.includes(value);
  });
  if (repeated.length > 0)
    return repeated.sort((a, b) => (values[b]?.length ?? 0) - (values[a]?.length ?? 0))[0] ?? null;
  return first?.field ?? null;
}

/** The message as it is shown at its field, where the field's name on the wire says nothing new. */
export function withoutField(message: string, field: FormField): string {
  const rest = message.startsWith(`${field}: `) ? message.slice(field.length + 2) : message;
  return rest.charAt(0).toUpperCase() + rest.slice(1);
}
