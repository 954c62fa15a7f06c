// The server's wire types, in one place. Fields that only a single GET returns are optional here.

export type Status = 'starting' | 'running' | 'stopped' | 'error' | 'archived' | 'deleting';

export type Activity = 'unknown' | 'working' | 'waiting_input' | 'waiting_approval' | 'idle';

export type Health =
  | 'Healthy'
  | 'Pending'
  | 'Stopped'
  | 'Error'
  | 'CrashLoop'
  | 'Missing'
  | 'DataLost'
  | 'WorktreeMissing'
  | 'Unreachable';

export interface SessionSummary {
  id: string;
  name: string;
  title: string | null;
  backend: string;
  agent: string;
  status: Status;
  activity: Activity;
  health: Health;
  repo_path: string;
  tags: string[];
  created_at: string;
  updated_at: string;
  archived: boolean;
}

export interface Session extends SessionSummary {
  description: string | null;
  model: string | null;
  status_message: string | null;
  repositories: SessionRepository[];
  worktree_path: string | null;
  prompt: string;
}

export interface SessionRepository {
  path: string;
  mount_name: string;
  mount_point: string | null;
  branch: string | null;
  base_branch: string | null;
  base_commit: string | null;
  worktree_path: string | null;
}

export interface CreateSession {
  repo_path: string;
  prompt: string;
  backend?: string;
  agent?: string;
  model?: string;
  name?: string;
  base_branch?: string;
}

export type Action = 'start' | 'recreate' | 'recreate_fresh' | 'cleanup' | 'refresh';

export interface HealthReport {
  health: Health;
  available_actions: Action[];
}

export interface Deleted {
  success: boolean;
  rescued?: string[];
  message?: string;
}

export interface PluginSummary {
  name: string;
  version: string;
  available: boolean;
  reason: string | null;
  capabilities: string[] | Record<string, unknown>;
}

export interface Config {
  default_backend: string;
  default_agent: string;
  features: { webauthn_auth: boolean; ai_metadata: boolean };
  backends: PluginSummary[];
  agents: PluginSummary[];
}

export interface DirectoryEntry {
  name: string;
  path: string;
  is_dir: boolean;
  is_git_repo: boolean;
  size: number | null;
}

export interface Directory {
  current_path: string;
  parent: string | null;
  entries: DirectoryEntry[];
}

export interface ErrorBody {
  error: { code: string; message: string };
}

// What `/ws/events` sends and `GET /api/sessions/:id/events` returns.

interface Durable {
  session_id: string;
  seq: number;
  at: string;
}

export interface StatusEvent extends Durable {
  type: 'session_status';
  status: Status;
  activity?: Activity;
  health?: Health;
  message?: string;
}

export interface ChatEvent extends Durable {
  type: 'chat_message';
  message: { role: 'user' | 'assistant' | 'system'; content: string };
}

export interface ToolCallEvent extends Durable {
  type: 'tool_call';
  tool: { id: string; name: string; input: unknown };
}

export interface ToolResultEvent extends Durable {
  type: 'tool_result';
  tool: { id: string; name: string; output: unknown; is_error: boolean };
}

export interface ApprovalRequestedEvent extends Durable {
  type: 'approval_requested';
  approval: { id: string; tool: { id: string; name: string; input: unknown }; options: string[] };
}

export interface ApprovalResolvedEvent extends Durable {
  type: 'approval_resolved';
  approval: { id: string; decision: string; by: string };
}

export interface DeletedEvent extends Durable {
  type: 'session_deleted';
}

export type SessionEvent =
  | StatusEvent
  | ChatEvent
  | ToolCallEvent
  | ToolResultEvent
  | ApprovalRequestedEvent
  | ApprovalResolvedEvent
  | DeletedEvent;

export type EventsMessage =
  | SessionEvent
  | { type: 'subscribed'; session_id: string; seq?: number }
  | { type: 'unsubscribed'; session_id: string }
  | { type: 'message_accepted'; session_id: string; id?: string; held: boolean }
  | { type: 'error'; code: string; message: string; session_id?: string; id?: string }
  | { type: 'pong' };

export interface EventPage {
  events: SessionEvent[];
  next_after: number | null;
}

// Text frames of `/ws/console/{session}?control=1`.
export type ConsoleControl =
  /** `code` is null where it is not known. */
  | { type: 'exit'; code: number | null }
  | { type: 'resize'; cols: number; rows: number }
  | { type: 'replay_end' }
  | { type: 'error'; message: string };
