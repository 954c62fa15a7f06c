import type { SessionEvent, SessionSummary } from '../api/types';

export type Sessions = ReadonlyMap<string, SessionSummary>;

/** What an event does to the list: the new list, and the session that must be asked for because the list lacks it. */
export function applyToList(sessions: Sessions, event: SessionEvent): { sessions: Sessions; missing?: string } {
  const id = event.session_id;
  if (event.type === 'session_deleted') {
    if (!sessions.has(id)) return { sessions };
    const rest = new Map(sessions);
    rest.delete(id);
    return { sessions: rest };
  }
  if (event.type !== 'session_status') return { sessions };
  const known = sessions.get(id);
  if (!known) return { sessions, missing: id };
  const changed: SessionSummary = {
    ...known,
    status: event.status,
    activity: event.activity ?? known.activity,
    health: event.health ?? known.health,
    archived: event.status === 'archived',
    updated_at: event.at,
  };
  return { sessions: new Map(sessions).set(id, changed) };
}

/** The list as it is shown: what matches `filter`, what needs a person first, then newest first, archived last. */
export function arrange(sessions: Sessions, filter: string): SessionSummary[] {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = (session: SessionSummary) => {
    const text = [
      session.name,
      session.title,
      session.repo_path,
      session.agent,
      session.backend,
      session.status,
      ...(session.tags ?? []),
    ]
      .join(' ')
      .toLowerCase();
    return words.every((word) => text.includes(word));
  };
  return [...sessions.values()]
    .filter(matches)
    .sort((a, b) => rank(a) - rank(b) || b.created_at.localeCompare(a.created_at) || a.name.localeCompare(b.name));
}

function rank(session: SessionSummary): number {
  if (session.archived) return 2;
  return needsPerson(session) ? 0 : 1;
}

/** Whether the agent inside waits for an answer. */
export function needsPerson(session: Pick<SessionSummary, 'status' | 'activity'>): boolean {
  return (
    session.status === 'running' && (session.activity === 'waiting_input' || session.activity === 'waiting_approval')
  );
}
