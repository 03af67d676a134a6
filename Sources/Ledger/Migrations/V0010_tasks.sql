-- Work that runs on the platform itself: tasks of an organization, without a device.
--
-- One table for the open and the ended: a task is written by one worker at a time and settled once, by its
-- primary key, and what looks for open ones has partial indexes. Ended tasks are removed by retention.
-- States are smallint (Domain.TaskState).

CREATE TABLE tasks (
    organization_id uuid NOT NULL,
    id uuid NOT NULL,
    kind text NOT NULL CHECK (octet_length(kind) BETWEEN 1 AND 64),
    -- What its handler reads; nowhere but here.
    payload bytea NOT NULL CHECK (octet_length(payload) <= 65536),
    state smallint NOT NULL CHECK (state IN (0, 1, 4, 10, 11, 12, 13, 14)),
    priority smallint NOT NULL CHECK (priority BETWEEN 0 AND 2),
    -- Rises with each entry into state 1; the mark wants the one that was claimed.
    generation integer NOT NULL DEFAULT 1,
    -- Rises with each mark. With the token it fences: what ends an attempt names both.
    attempt integer NOT NULL DEFAULT 0,
    token uuid,
    -- The worker that has it, or had it last.
    worker_id uuid,
    -- Attempts that failed or took too long; and leases that lapsed, of those the ones in which the worker
    -- had no other task.
    failures integer NOT NULL DEFAULT 0,
    crashes integer NOT NULL DEFAULT 0,
    lone_crashes integer NOT NULL DEFAULT 0,
    maximum_attempts integer NOT NULL CHECK (maximum_attempts BETWEEN 1 AND 100),
    backoff_seconds integer NOT NULL CHECK (backoff_seconds BETWEEN 1 AND 86400),
    maximum_backoff_seconds integer NOT NULL CHECK (maximum_backoff_seconds BETWEEN 1 AND 86400),
    timeout_seconds integer NOT NULL CHECK (timeout_seconds BETWEEN 1 AND 86400),
    idempotency_key text CHECK (octet_length(idempotency_key) BETWEEN 1 AND 200),
    -- The ended task that this one repeats.
    retry_of uuid,
    -- Why the last attempt ended, or the task.
    reason text CHECK (octet_length(reason) <= 2000),
    created_at timestamptz NOT NULL DEFAULT now(),
    queued_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz,
    cancel_requested_at timestamptz,
    expires_at timestamptz NOT NULL,
    -- When it is due (state 0), has expired (1), or its lease ends (4).
    deadline timestamptz NOT NULL,
    PRIMARY KEY (id, organization_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
CREATE UNIQUE INDEX tasks_by_key ON tasks (organization_id, kind, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE UNIQUE INDEX tasks_by_retry ON tasks (retry_of, organization_id) WHERE retry_of IS NOT NULL;
CREATE INDEX tasks_queued ON tasks (kind, organization_id, priority, id) WHERE state = 1;
CREATE INDEX tasks_running ON tasks (kind, organization_id, id) WHERE state = 4;
CREATE INDEX tasks_of_worker ON tasks (worker_id) WHERE worker_id IS NOT NULL AND state < 10;
CREATE INDEX tasks_by_deadline ON tasks (state, deadline) WHERE state < 10;
CREATE INDEX tasks_ended ON tasks (organization_id, finished_at) WHERE state >= 10;
-- Partial, as on jobs: there only for who names an organization.
CREATE INDEX tasks_by_organization ON tasks (organization_id, id) WHERE organization_id IS NOT NULL;

ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
ALTER TABLE tasks FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON tasks
    USING (organization_id = ANY ((SELECT crmm_organizations())::uuid[]) OR (SELECT crmm_is_platform()));
GRANT SELECT, INSERT ON tasks TO crmm_api, crmm_worker;
GRANT UPDATE (state, finished_at, cancel_requested_at, reason) ON tasks TO crmm_api;
GRANT UPDATE (state, generation, attempt, token, worker_id, failures, crashes, lone_crashes, reason,
              queued_at, started_at, finished_at, deadline)
    ON tasks TO crmm_worker;
GRANT DELETE ON tasks TO crmm_worker;

-- For how many days an organization keeps jobs, runs and tasks that have ended; NULL for the default.
ALTER TABLE organizations ADD COLUMN retention_days integer CHECK (retention_days BETWEEN 1 AND 3650);
GRANT UPDATE (retention_days) ON organizations TO crmm_api;
GRANT SELECT, DELETE ON jobs, run_history, attempts, suspects, job_slots TO crmm_worker;
GRANT SELECT (organization_id, run_id), DELETE ON run_output TO crmm_worker;
