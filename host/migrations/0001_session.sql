-- Sessions, what happened in them, and the keys of the requests that made them.
-- Portable text for SQLite and PostgreSQL: ids, times and JSON documents are text, flags are integers.
-- Times are RFC 3339 UTC with three digits of a second, so that they sort as text.

create table session (
    -- UUIDv7: sorts by the time of creation.
    session_id text not null,
    -- [a-z0-9]([a-z0-9-]*[a-z0-9])?, 1 to 63 characters; unique among sessions that are not deleted.
    name text not null,
    title text,
    description text,
    -- JSON array of text.
    tags text not null,
    -- Names of plugins, as they were when the session was made.
    backend text not null,
    agent text not null,
    -- The first prompt; never changes. Empty: the agent was started idle.
    prompt text not null,
    -- JSON: everything that the caller asked for. Never changes.
    spec text not null,
    -- JSON: what is wanted and how far it has come. Written only by the session's own task.
    record text not null,
    -- What was last told of it: the words of the wire.
    status text not null,
    activity text not null,
    health text not null,
    status_message text,
    -- 1: archived.
    archived integer not null,
    created_at text not null,
    updated_at text not null,
    -- Set when the session is gone: the row and its events stay for a while, for subscribers that were away.
    deleted_at text,
    constraint session_pk primary key (session_id),
    constraint session_archived_ck check (archived in (0, 1))
);

create unique index session_name_uq on session (name) where deleted_at is null;

create table event (
    session_id text not null,
    -- 1, 2, 3 …: no number of a session is ever left out or used twice.
    seq integer not null,
    -- The event's type on the wire.
    kind text not null,
    -- The agent's own id of what happened; the same one is stored once.
    source_key text,
    -- The event as it is sent: one JSON object.
    json text not null,
    -- No foreign key: it would cost a look-up for each of tens of thousands of rows a second.
    constraint event_pk primary key (session_id, seq)
);

create unique index event_source_uq on event (session_id, source_key) where source_key is not null;

create table creation_key (
    -- The caller's Idempotency-Key.
    creation_key text not null,
    -- SHA-256 of the request's canonical JSON, in hex.
    body_hash text not null,
    session_id text not null,
    created_at text not null,
    constraint creation_key_pk primary key (creation_key),
    constraint creation_key_session_fk foreign key (session_id) references session (session_id)
);
