-- Quotas: how many open runs, and how many bytes of open jobs, an organization may have.

ALTER TABLE jobs
    -- Of a job whose total is not known: how many runs it counts for in the use of its organization. As many
    -- as its target had devices when it was submitted, or as it has runs by now if they are more.
    ADD COLUMN charged integer NOT NULL DEFAULT 0;
UPDATE jobs SET charged = expanded WHERE total IS NULL;

-- What an organization has open, but for the deltas, and what it may have.
CREATE TABLE queue_usage (
    organization_id uuid PRIMARY KEY,
    runs bigint NOT NULL DEFAULT 0,
    -- Statements and lists of open jobs.
    bytes bigint NOT NULL DEFAULT 0,
    -- NULL is the default.
    runs_max bigint CHECK (runs_max > 0),
    bytes_max bigint CHECK (bytes_max > 0)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);

INSERT INTO queue_usage (organization_id, runs, bytes)
    SELECT organization_id, sum(coalesce(total, charged) - (SELECT sum(n) FROM unnest(ended) n)),
           sum(octet_length(statement) + coalesce(octet_length(target_devices), 0))
    FROM jobs WHERE state < 10 GROUP BY 1;

CREATE TABLE queue_usage_deltas (
    id bigint GENERATED ALWAYS AS IDENTITY,
    organization_id uuid NOT NULL,
    runs bigint NOT NULL,
    bytes bigint NOT NULL,
    PRIMARY KEY (organization_id, id)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000);

ALTER TABLE queue_usage ENABLE ROW LEVEL SECURITY;
ALTER TABLE queue_usage FORCE ROW LEVEL SECURITY;
ALTER TABLE queue_usage_deltas ENABLE ROW LEVEL SECURITY;
ALTER TABLE queue_usage_deltas FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON queue_usage
    USING (organization_id = ANY ((SELECT crmm_organizations())::uuid[]) OR (SELECT crmm_is_platform()));
CREATE POLICY tenant ON queue_usage_deltas
    USING (organization_id = ANY ((SELECT crmm_organizations())::uuid[]) OR (SELECT crmm_is_platform()));
-- What a site submits counts for its organization.
CREATE POLICY of_site ON queue_usage_deltas FOR INSERT TO crmm_api
    WITH CHECK (organization_id = (SELECT s.organization_id FROM sites s WHERE s.id = (SELECT crmm_site())));

GRANT SELECT, INSERT (organization_id, runs_max, bytes_max), UPDATE (runs_max, bytes_max) ON queue_usage
    TO crmm_api;
GRANT SELECT, INSERT (organization_id), UPDATE (runs, bytes) ON queue_usage TO crmm_worker;
GRANT SELECT, INSERT ON queue_usage_deltas TO crmm_api;
GRANT SELECT, INSERT, DELETE ON queue_usage_deltas TO crmm_worker;
GRANT INSERT ON queue_usage_deltas TO crmm_gateway;
GRANT UPDATE (charged) ON jobs TO crmm_worker;

-- Sums the deltas of up to so many organizations into their rows; returns of how many. It waits for no row
-- that another transaction holds. A function for the same reason as crmm_fold: deltas are read once their
-- organization's row is locked.
CREATE FUNCTION crmm_fold_usage(organizations_max integer) RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    tenant uuid;
    folded integer := 0;
BEGIN
    FOR tenant IN
        WITH RECURSIVE waiting AS (
            (SELECT organization_id FROM queue_usage_deltas ORDER BY organization_id LIMIT 1)
            UNION ALL
            SELECT n.organization_id FROM waiting w
            CROSS JOIN LATERAL (
                SELECT d.organization_id FROM queue_usage_deltas d
                WHERE d.organization_id > w.organization_id ORDER BY d.organization_id LIMIT 1
            ) n
        )
        SELECT organization_id FROM waiting LIMIT organizations_max
    LOOP
        PERFORM FROM queue_usage u WHERE u.organization_id = tenant FOR UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
            -- Somebody holds it, or it is not there yet. Folders make rows in the order of organizations.
            INSERT INTO queue_usage (organization_id) VALUES (tenant) ON CONFLICT DO NOTHING;
            CONTINUE WHEN NOT FOUND;
        END IF;
        WITH gone AS (
            DELETE FROM queue_usage_deltas d WHERE d.organization_id = tenant RETURNING d.runs, d.bytes
        )
        UPDATE queue_usage u SET runs = u.runs + g.runs, bytes = u.bytes + g.bytes
        FROM (SELECT sum(runs)::bigint AS runs, sum(bytes)::bigint AS bytes FROM gone HAVING count(*) > 0) g
        WHERE u.organization_id = tenant;
        folded := folded + 1;
    END LOOP;
    RETURN folded;
END $$;

-- As before, and what the jobs' runs and ended jobs free is told to the use of their organizations: a delta
-- an organization, summed at once with those of others.
CREATE OR REPLACE FUNCTION crmm_fold(jobs_max integer) RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    job record;
    change record;
    tenant uuid;
    freed_runs bigint := 0;
    freed_bytes bigint := 0;
    folded integer := 0;
    tenants integer;
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
        SELECT j.organization_id, j.id, j.total, j.ended, j.state,
               octet_length(j.statement) + coalesce(octet_length(j.target_devices), 0) AS bytes
        FROM waiting w
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
                   sum(e.n + coalesce(g.n, 0)) AS all_ended, sum(coalesce(g.n, 0)) AS more_ended
            FROM unnest(job.ended) WITH ORDINALITY AS e(n, place)
            LEFT JOIN (SELECT outcome, sum(n)::integer AS n FROM gone GROUP BY 1) g ON g.outcome = e.place + 9
            HAVING EXISTS (SELECT FROM gone)
        )
        UPDATE jobs j SET ended = s.ended,
               retried = j.retried
                         + coalesce((SELECT sum(g.n) FROM gone g WHERE g.outcome = 0)::integer, 0),
               state = CASE WHEN s.all_ended = job.total
                            THEN CASE WHEN j.cancel_requested_at IS NULL THEN 10 ELSE 11 END
                            ELSE j.state END,
               finished_at = CASE WHEN s.all_ended = job.total THEN coalesce(j.finished_at, now())
                                  ELSE j.finished_at END
        FROM summed s WHERE j.organization_id = job.organization_id AND j.id = job.id
        RETURNING s.more_ended, j.state INTO change;
        CONTINUE WHEN NOT FOUND;
        folded := folded + 1;
        IF tenant IS DISTINCT FROM job.organization_id THEN
            IF freed_runs <> 0 OR freed_bytes <> 0 THEN
                INSERT INTO queue_usage_deltas (organization_id, runs, bytes)
                VALUES (tenant, -freed_runs, -freed_bytes);
            END IF;
            tenant := job.organization_id;
            freed_runs := 0;
            freed_bytes := 0;
        END IF;
        freed_runs := freed_runs + change.more_ended;
        -- A job whose counters are amended had ended before.
        IF job.state < 10 AND change.state >= 10 THEN freed_bytes := freed_bytes + job.bytes; END IF;
    END LOOP;
    IF freed_runs <> 0 OR freed_bytes <> 0 THEN
        INSERT INTO queue_usage_deltas (organization_id, runs, bytes)
        VALUES (tenant, -freed_runs, -freed_bytes);
    END IF;
    tenants := crmm_fold_usage(jobs_max);
    -- More wait: whoever folds goes on at once.
    IF tenants >= jobs_max THEN RETURN greatest(folded, tenants); END IF;
    RETURN folded;
END $$;
