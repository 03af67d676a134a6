-- Jobs, runs, history, attempts, output, deltas, gateways, partitions of the queue.
--
-- Hot tables carry no foreign-key triggers: the statement that writes a run joins devices under the caller's
-- scope, so a foreign device cannot get in, and a test scans for orphans. States are smallint
-- (Domain.RunState, Domain.JobState).
--
-- Primary keys are (id, organization): unique only within a tenant, and found by the id alone. Beside them an
-- index of a hot table leads with the organization only where it is meant to be walked by organization: a
-- generic plan that was made while the table was empty could otherwise take a tenant's whole backlog for as
-- good as one row, and stay.

CREATE TABLE queue_partitions (
    partition smallint PRIMARY KEY,
    -- The identity of the data set in Redis: the mark refuses claims of another one.
    epoch text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now()
);

-- Fails the statement, and with it the transaction, unless the condition holds.
CREATE FUNCTION crmm_require(condition boolean, sentence text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF NOT condition THEN
        RAISE EXCEPTION '%', sentence USING ERRCODE = 'CR001';
    END IF;
    RETURN true;
END $$;

-- Whether claims of this data set are accepted, until the end of the transaction: a rebuild, which takes the
-- lock alone, waits for it. A function, so that the row is read after the lock was waited for.
CREATE FUNCTION crmm_accepts(lock integer, number integer, claimed text) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(lock, number);
    RETURN EXISTS (SELECT FROM queue_partitions WHERE partition = number AND epoch = claimed);
END $$;

CREATE TABLE gateways (
    id uuid PRIMARY KEY,
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz
);

CREATE TABLE jobs (
    organization_id uuid NOT NULL,
    id uuid NOT NULL,
    site_id uuid,
    kind text NOT NULL,
    state smallint NOT NULL,
    priority smallint NOT NULL,
    -- The signed statement, whole: what agents believe.
    statement bytea NOT NULL,
    -- The list of a target of several ids, 16 bytes each, in the order of the Merkle tree's leaves; NULL for
    -- one device, a site or an organization.
    target_devices bytea CHECK (octet_length(target_devices) % 16 = 0),
    timeout_seconds integer NOT NULL,
    maximum_attempts integer NOT NULL,
    idempotent boolean NOT NULL,
    released_wave integer NOT NULL DEFAULT 0,
    -- The device up to which a site or an organization is expanded, and how many runs that made.
    expanded_to uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    expanded integer NOT NULL DEFAULT 0,
    -- Runs that the target was expanded into, NULL until all are there, and how many of them ended how:
    -- succeeded … unknown by raw value - 9.
    total integer,
    ended integer[] NOT NULL DEFAULT '{0,0,0,0,0,0}',
    created_by uuid NOT NULL,
    idempotency_key text CHECK (octet_length(idempotency_key) <= 220),
    request_hash bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    cancel_requested_at timestamptz,
    -- Whether runs are left that have not got the request.
    cancel_pending boolean NOT NULL DEFAULT false,
    finished_at timestamptz,
    PRIMARY KEY (id, organization_id)
) WITH (fillfactor = 85);
CREATE UNIQUE INDEX jobs_by_idempotency_key ON jobs (organization_id, created_by, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_by_organization ON jobs (organization_id, id) WHERE organization_id IS NOT NULL;
-- Jobs that a worker still has to expand, organization by organization, or to cancel. No index names a column
-- that settlement writes, so that its update stays on the row's page.
CREATE INDEX jobs_accepted ON jobs (organization_id, id) WHERE total IS NULL;
CREATE INDEX jobs_cancelling ON jobs (organization_id, id) WHERE cancel_pending;

CREATE TABLE runs (
    organization_id uuid NOT NULL,
    id uuid NOT NULL,
    job_id uuid NOT NULL,
    device_id uuid NOT NULL,
    site_id uuid NOT NULL,
    state smallint NOT NULL,
    priority smallint NOT NULL,
    lane smallint NOT NULL,
    wave integer NOT NULL DEFAULT 0,
    leaf integer,
    generation integer NOT NULL,
    attempt integer NOT NULL DEFAULT 0,
    token uuid,
    gateway_id uuid,
    queued_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz,
    started_at timestamptz,
    cancel_requested_at timestamptz,
    expires_at timestamptz NOT NULL,
    -- When the reconciler looks at the run: it leaves its state, or gets the next deadline of that state.
    deadline timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id, organization_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
CREATE INDEX runs_queued ON runs (organization_id, priority, id) WHERE state = 1;
CREATE INDEX runs_waiting ON runs (organization_id, device_id) WHERE state = 2;
CREATE INDEX runs_on_devices ON runs (organization_id, device_id, id) WHERE state IN (3, 4);
-- Partial, so that it is there only for who names a job: by the run's id alone all of it would be walked.
CREATE INDEX runs_by_job ON runs (job_id, id) WHERE job_id IS NOT NULL;
CREATE INDEX runs_by_deadline ON runs (deadline);
CREATE INDEX runs_cancelling ON runs (organization_id, id) WHERE cancel_requested_at IS NOT NULL;

CREATE TABLE run_history (
    organization_id uuid NOT NULL,
    id uuid NOT NULL,
    job_id uuid NOT NULL,
    device_id uuid NOT NULL,
    site_id uuid NOT NULL,
    state smallint NOT NULL,
    attempt integer NOT NULL,
    token uuid,
    exit_code integer,
    reason text,
    started_at timestamptz,
    finished_at timestamptz,
    -- Whether the outcome was declared without the agent's word, so that its word replaces it, once.
    amendable boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    settled_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id, organization_id)
) PARTITION BY RANGE (id);
CREATE INDEX run_history_by_job ON run_history (job_id, id) WHERE job_id IS NOT NULL;

CREATE TABLE run_output (
    organization_id uuid NOT NULL,
    run_id uuid NOT NULL,
    site_id uuid NOT NULL,
    attempt integer NOT NULL,
    stdout_head bytea NOT NULL,
    stdout_tail bytea NOT NULL,
    stdout_bytes bigint NOT NULL,
    stderr_head bytea NOT NULL,
    stderr_tail bytea NOT NULL,
    stderr_bytes bigint NOT NULL,
    PRIMARY KEY (run_id, organization_id)
) PARTITION BY RANGE (run_id);

-- Evidence of attempts whose result was not applied: late ones, and those replaced by an amendment.
CREATE TABLE attempts (
    organization_id uuid NOT NULL,
    run_id uuid NOT NULL,
    attempt integer NOT NULL,
    token uuid NOT NULL,
    outcome smallint NOT NULL,
    exit_code integer,
    reason text,
    -- late, amended
    kind text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    -- One of a kind for each attempt, so that a device cannot fill the table with what it makes up.
    PRIMARY KEY (organization_id, run_id, attempt, kind)
);

CREATE TABLE job_deltas (
    id bigint GENERATED ALWAYS AS IDENTITY,
    organization_id uuid NOT NULL,
    job_id uuid NOT NULL,
    outcome smallint NOT NULL,
    n integer NOT NULL,
    PRIMARY KEY (organization_id, job_id, id)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000);

-- Sums the deltas of up to so many jobs into their rows, and completes the jobs whose runs have all ended;
-- returns how many jobs it folded. It never waits: a row that another transaction holds is passed over.
--
-- A function, so that a job's deltas are read after its row is locked, by a statement with a snapshot of its
-- own: whoever held the row before has committed, so what he summed is gone and what he left is there. All
-- that are there are summed, so the sum is the total exactly when no run is open. Each job is reached by
-- constants, so no plan, whenever it was made, walks the deltas or rows of the others.
CREATE FUNCTION crmm_fold(jobs_max integer) RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    job record;
    folded integer := 0;
BEGIN
    FOR job IN
        WITH RECURSIVE waiting AS (
            (SELECT organization_id, job_id FROM job_deltas ORDER BY organization_id, job_id LIMIT 1)
            UNION ALL
            SELECT n.organization_id, n.job_id FROM waiting w
            CROSS JOIN LATERAL (
                SELECT d.organization_id, d.job_id FROM job_deltas d
                WHERE (d.organization_id, d.job_id) > (w.organization_id, w.job_id)
                ORDER BY d.organization_id, d.job_id LIMIT 1
            ) n
        )
        -- In (organization, id) order, one probe a job; no more are looked for than are locked.
        SELECT j.organization_id, j.id, j.total, j.ended FROM waiting w
        CROSS JOIN LATERAL (
            SELECT * FROM jobs j WHERE j.organization_id = w.organization_id AND j.id = w.job_id
            OFFSET 0 FOR UPDATE SKIP LOCKED
        ) j
        LIMIT jobs_max
    LOOP
        WITH gone AS (
            DELETE FROM job_deltas d WHERE d.organization_id = job.organization_id AND d.job_id = job.id
            RETURNING d.outcome, d.n
        ), summed AS (
            SELECT array_agg(e.n + coalesce(g.n, 0) ORDER BY e.place) AS ended,
                   sum(e.n + coalesce(g.n, 0)) AS all_ended
            FROM unnest(job.ended) WITH ORDINALITY AS e(n, place)
            LEFT JOIN (SELECT outcome, sum(n)::integer AS n FROM gone GROUP BY 1) g ON g.outcome = e.place + 9
            HAVING EXISTS (SELECT FROM gone)
        )
        UPDATE jobs j SET ended = s.ended,
               state = CASE WHEN s.all_ended = job.total
                            THEN CASE WHEN j.cancel_requested_at IS NULL THEN 10 ELSE 11 END
                            ELSE j.state END,
               finished_at = CASE WHEN s.all_ended = job.total THEN coalesce(j.finished_at, now())
                                  ELSE j.finished_at END
        FROM summed s WHERE j.organization_id = job.organization_id AND j.id = job.id;
        IF FOUND THEN folded := folded + 1; END IF;
    END LOOP;
    RETURN folded;
END $$;

-- Version 7 UUIDs made by the database, for expansion in one statement.
CREATE FUNCTION crmm_uuid7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT encode(
        set_byte(
            overlay(uuid_send(gen_random_uuid())
                    PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                    FROM 1 FOR 6),
            6, (get_byte(uuid_send(gen_random_uuid()), 0) & 15) | 112),
        'hex')::uuid
$$;

-- The least version 7 UUID of a time: bounds of partitions.
CREATE FUNCTION crmm_uuid7_floor(moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Makes the monthly partitions of history and output from this month on, with the parent's policy and no
-- grants.
CREATE FUNCTION crmm_extend_partitions(months integer) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public SET timezone = 'UTC' AS $$
DECLARE
    parent text;
    child text;
    month timestamptz;
    made integer := 0;
BEGIN
    IF months NOT BETWEEN 1 AND 120 THEN
        RAISE EXCEPTION 'months is %, allowed are 1 to 120', months;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('crmm partitions'));
    FOREACH parent IN ARRAY ARRAY['run_history', 'run_output'] LOOP
        FOR step IN 0..months - 1 LOOP
            month := date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
                     + make_interval(months => step);
            child := format('%s_%s', parent, to_char(month AT TIME ZONE 'UTC', 'YYYY_MM'));
            IF to_regclass(child) IS NULL THEN
                EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', child, parent,
                               crmm_uuid7_floor(month), crmm_uuid7_floor(month + interval '1 month'));
                EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', child);
                EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', child);
                made := made + 1;
            END IF;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;
REVOKE ALL ON FUNCTION crmm_extend_partitions(integer) FROM PUBLIC;

-- Ids of any time have a place even if nobody extended the partitions.
CREATE TABLE run_history_default PARTITION OF run_history DEFAULT;
CREATE TABLE run_output_default PARTITION OF run_output DEFAULT;

SELECT crmm_extend_partitions(4);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['queue_partitions', 'gateways', 'jobs', 'runs', 'run_history', 'run_output',
                                'attempts', 'job_deltas', 'run_history_default', 'run_output_default'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['jobs', 'runs', 'run_history', 'run_output'] LOOP
        EXECUTE format(
            'CREATE POLICY tenant ON %I USING (organization_id = ANY ((SELECT crmm_organizations())::uuid[]) '
            'OR (SELECT crmm_is_platform()) OR site_id = (SELECT crmm_site()))', name);
    END LOOP;
END $$;

CREATE POLICY tenant ON attempts
    USING (organization_id = ANY ((SELECT crmm_organizations())::uuid[]) OR (SELECT crmm_is_platform()));
-- A site's scope sees the deltas of the jobs that it sees.
CREATE POLICY tenant ON job_deltas
    USING (organization_id = ANY ((SELECT crmm_organizations())::uuid[]) OR (SELECT crmm_is_platform())
           OR ((SELECT crmm_site()) IS NOT NULL
               AND EXISTS (SELECT FROM jobs j WHERE j.organization_id = job_deltas.organization_id
                           AND j.id = job_deltas.job_id)));

CREATE POLICY everyone ON queue_partitions USING (true);
CREATE POLICY everyone ON gateways USING (true);

-- What the API shows: open runs and history as one.
CREATE VIEW run_states WITH (security_invoker = true) AS
    SELECT organization_id, id, job_id, device_id, site_id, state, attempt, NULL::integer AS exit_code,
           NULL::text AS reason, started_at, NULL::timestamptz AS finished_at, created_at
    FROM runs
    UNION ALL
    SELECT organization_id, id, job_id, device_id, site_id, state, attempt, exit_code, reason, started_at,
           finished_at, created_at
    FROM run_history;

GRANT SELECT ON organizations TO crmm_gateway;
GRANT SELECT ON queue_partitions, gateways TO crmm_api, crmm_worker, crmm_gateway;
GRANT INSERT, UPDATE ON queue_partitions TO crmm_worker;
GRANT INSERT, UPDATE (ended_at) ON gateways TO crmm_gateway;
GRANT UPDATE (ended_at) ON gateways TO crmm_worker;
GRANT SELECT, INSERT, UPDATE (cancel_requested_at, cancel_pending) ON jobs TO crmm_api;
GRANT SELECT, INSERT, UPDATE (cancel_requested_at, deadline), DELETE ON runs TO crmm_api;
GRANT SELECT, INSERT ON run_history TO crmm_api;
GRANT SELECT ON run_output, attempts, run_states TO crmm_api;
GRANT SELECT, INSERT ON job_deltas TO crmm_api;
GRANT SELECT ON jobs, run_history TO crmm_worker, crmm_gateway;
GRANT UPDATE (state, expanded_to, expanded, total, ended, finished_at, cancel_pending) ON jobs
    TO crmm_worker;
GRANT UPDATE (state, ended, finished_at) ON jobs TO crmm_gateway;
GRANT SELECT, INSERT, DELETE ON runs TO crmm_worker;
GRANT UPDATE (state, generation, attempt, token, gateway_id, queued_at, deadline, cancel_requested_at)
    ON runs TO crmm_worker;
GRANT SELECT, DELETE ON runs TO crmm_gateway;
GRANT UPDATE (state, generation, gateway_id, queued_at, sent_at, started_at, deadline)
    ON runs TO crmm_gateway;
GRANT INSERT ON run_history TO crmm_worker, crmm_gateway;
GRANT UPDATE (state, exit_code, reason, started_at, finished_at, amendable) ON run_history TO crmm_gateway;
GRANT INSERT ON run_output TO crmm_gateway;
GRANT SELECT, INSERT ON attempts TO crmm_gateway;
GRANT SELECT, INSERT, DELETE ON job_deltas TO crmm_worker;
GRANT INSERT, SELECT ON job_deltas TO crmm_gateway;
GRANT EXECUTE ON FUNCTION crmm_extend_partitions(integer) TO crmm_worker;
