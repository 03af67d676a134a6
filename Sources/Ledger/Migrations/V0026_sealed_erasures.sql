-- Erasures that are believed by their MAC, that go on where they were however many rows there are, and whose
-- logs do not begin anew.

ALTER TABLE erasures
    -- Of whom asked for what, and when. A row from before this has none, and takes nothing.
    ADD COLUMN mac_key text NOT NULL DEFAULT '', ADD COLUMN mac bytea NOT NULL DEFAULT '',
    -- How far it has come in its plan; 0 while there are jobs.
    ADD COLUMN step integer NOT NULL DEFAULT 0,
    -- In which transaction it was asked for: it ends after all that ran beside that one.
    ADD COLUMN asked_in xid8 NOT NULL DEFAULT pg_current_xact_id(),
    -- Whether the log goes although it does not hold, as an operator on the server has said.
    ADD COLUMN without_log boolean NOT NULL DEFAULT false;
ALTER TABLE erasures ALTER COLUMN mac_key DROP DEFAULT, ALTER COLUMN mac DROP DEFAULT;
-- A row that somebody put in is replaced by one that was asked for.
GRANT UPDATE (name, asked_by, asked_at, counted, removed, mac_key, mac, step, asked_in)
    ON erasures TO crmm_api;

-- Whether what is asked for to be erased is given up for good.
CREATE FUNCTION crmm_is_given_up(erasure erasures) RETURNS boolean LANGUAGE sql STABLE
SET search_path = public, pg_temp AS $$
    SELECT CASE erasure.kind
        WHEN 2 THEN EXISTS (SELECT FROM organizations o WHERE o.id = erasure.id AND o.state = 2)
        ELSE EXISTS (SELECT FROM partners p WHERE p.id = erasure.id AND p.state = 2) END
$$;

-- What a row of an erasure says to people.
CREATE FUNCTION crmm_shown_erasure(erasure erasures) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT (to_jsonb(erasure) - ARRAY['kind', 'mac', 'mac_key', 'step', 'asked_in', 'without_log'])::text
$$;

-- Rows of runs are not among what is looked for by organization, which has no index: they go with their jobs,
-- and there is none without its job.
CREATE OR REPLACE FUNCTION crmm_erasure_plan(target uuid, of_kind smallint)
RETURNS TABLE (step integer, name text, key text, condition text) LANGUAGE plpgsql STABLE
SET search_path = public, pg_temp AS $$
DECLARE
    own text := format(CASE of_kind WHEN 1 THEN 'partner_id = %L' ELSE 'organization_id = %L' END, target);
    -- Rows of work name an organization, also where a partner stands for one.
    tenant text := format('organization_id = %L', target);
    placed text := CASE of_kind WHEN 1 THEN own
        ELSE format('(%s OR site_id IN (SELECT s.id FROM sites s WHERE s.organization_id = %L))', own, target)
        END;
    people text := format('user_id IN (SELECT u.id FROM users u WHERE u.%s)', own);
    made text := format('role_id IN (SELECT r.id FROM roles r WHERE r.%s)', own);
BEGIN
    RETURN QUERY SELECT row_number() OVER ()::integer, p.* FROM (VALUES
        ('secret_requests', 'ctid', tenant), ('attempts', 'ctid', tenant), ('suspects', 'ctid', tenant),
        ('job_deltas', 'ctid', tenant), ('job_slots', 'ctid', tenant), ('paused_jobs', 'ctid', tenant),
        ('jobs', 'ctid', tenant),
        ('queue_usage_deltas', 'ctid', tenant), ('queue_usage', 'ctid', tenant),
        ('queue_usage_checks', 'ctid', tenant), ('tasks', 'ctid', tenant),
        ('webhook_deliveries', 'ctid',
         format('(%s OR webhook_id IN (SELECT w.id FROM webhooks w WHERE w.%s))', own, own)),
        ('webhook_events', 'ctid', own), ('webhooks', 'ctid', own),
        ('oidc_links', 'ctid',
         format('(%s OR target_organization_id = %L OR %s OR %s OR provider_id IN '
                '(SELECT o.id FROM oidc_providers o WHERE o.%s))', own, target, people, made, own)),
        ('oidc_providers', 'ctid', own), ('approvals', 'ctid', placed), ('secrets', 'ctid', placed),
        ('sessions', 'ctid', people), ('user_credentials', 'ctid', people),
        ('sign_in_links', 'ctid', people),
        ('role_bindings', 'ctid', format('(%s OR %s OR %s)', placed, people, made)),
        ('api_keys', 'ctid', placed), ('roles', 'ctid', own), ('users', 'ctid', own)
    ) p
    UNION ALL
    SELECT 100, 'guards', 'ctid', own WHERE of_kind = 1
    UNION ALL
    SELECT 100 + row_number() OVER ()::integer, p.* FROM (VALUES
        ('queue_controls', 'ctid', tenant), ('run_limits', 'ctid', tenant), ('run_rates', 'ctid', tenant),
        ('enrollment_tokens', 'ctid', tenant), ('device_tags', 'ctid', tenant),
        ('certificates', 'ctid', tenant), ('devices', 'ctid', tenant), ('sites', 'ctid', tenant)
    ) p WHERE of_kind = 2;
END $$;

-- How many rows an erasure would take, by table, at most a million of each; null if the scope does not see
-- what it is of. What a scope does not see by itself, such as sessions, is counted too.
CREATE OR REPLACE FUNCTION crmm_erasure_counts(target uuid, of_kind smallint) RETURNS jsonb LANGUAGE plpgsql
STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    scope text := current_setting('crmm.scope', true);
    counts jsonb := '{}';
    planned record;
    n bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM organizations o WHERE o.id = target AND of_kind = 2
                   UNION ALL
                   SELECT FROM partners p WHERE p.id = target AND of_kind = 1) THEN
        RETURN NULL;
    END IF;
    PERFORM set_config('crmm.scope', 'platform', true);
    FOR planned IN
        SELECT p.name, p.condition FROM crmm_erasure_plan(target, of_kind) p
        UNION ALL
        SELECT name,
               format('job_id = ANY (ARRAY(SELECT j.id FROM jobs j WHERE j.organization_id = %L))', target)
        FROM (VALUES ('runs'), ('run_history')) AS by_job(name)
        UNION ALL
        SELECT 'run_output', format(
            'run_id IN (SELECT h.id FROM run_history h WHERE h.job_id = ANY (ARRAY('
            'SELECT j.id FROM jobs j WHERE j.organization_id = %L)))', target)
        UNION ALL
        SELECT 'audit_entries', format('chain = %L', target)
    LOOP
        EXECUTE format('SELECT count(*) FROM (SELECT FROM %I WHERE %s LIMIT 1000000) counted',
                       planned.name, planned.condition) INTO n;
        IF n > 0 THEN counts := counts || jsonb_build_object(planned.name, n); END IF;
    END LOOP;
    PERFORM set_config('crmm.scope', scope, true);
    RETURN counts;
END $$;

-- Takes at most so many rows of one table away, and says how many; 0 when only the log is left, null while
-- somebody else is at it, or at what it takes.
CREATE OR REPLACE FUNCTION crmm_erase_step(target uuid, batch integer) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    erasure erasures;
    planned record;
    at integer;
    n bigint := 0;
BEGIN
    SELECT * INTO erasure FROM erasures e WHERE e.id = target FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN RETURN NULL; END IF;
    IF NOT crmm_is_given_up(erasure) THEN
        RAISE EXCEPTION 'what is to be erased is in use' USING ERRCODE = 'insufficient_privilege';
    END IF;
    at := erasure.step;
    IF at = 0 THEN
        -- History has no index by organization: it goes by jobs, and a job after its last run.
        WITH first AS MATERIALIZED (
            SELECT j.id FROM jobs j WHERE j.organization_id = target
            ORDER BY j.organization_id, j.id LIMIT 500
        ), gone AS MATERIALIZED (
            SELECT h.id FROM run_history h WHERE h.job_id = ANY (ARRAY(SELECT f.id FROM first f)) LIMIT batch
        ), open AS MATERIALIZED (
            SELECT r.id FROM runs r WHERE r.job_id = ANY (ARRAY(SELECT f.id FROM first f)) LIMIT batch
        ), output AS (
            DELETE FROM run_output x
            WHERE x.organization_id = target
              AND x.run_id = ANY (ARRAY(SELECT g.id FROM gone g UNION ALL SELECT o.id FROM open o))
            RETURNING 1
        ), history AS (
            DELETE FROM run_history x
            WHERE x.organization_id = target AND x.id = ANY (ARRAY(SELECT g.id FROM gone g)) RETURNING 1
        ), runs_gone AS (
            DELETE FROM runs x
            WHERE x.organization_id = target AND x.id = ANY (ARRAY(SELECT o.id FROM open o)) RETURNING 1
        ), jobs_gone AS (
            DELETE FROM jobs x
            WHERE x.organization_id = target AND x.id = ANY (ARRAY(SELECT f.id FROM first f))
              AND NOT EXISTS (SELECT FROM gone) AND NOT EXISTS (SELECT FROM open) RETURNING 1
        )
        SELECT (SELECT count(*) FROM output) + (SELECT count(*) FROM history)
               + (SELECT count(*) FROM runs_gone) + (SELECT count(*) FROM jobs_gone) INTO n;
        -- Somebody was settling the runs that are left: a job goes after its last one, which is found by it.
        IF n = 0 AND EXISTS (SELECT FROM jobs j WHERE j.organization_id = target) THEN RETURN NULL; END IF;
    END IF;
    IF n = 0 THEN
        FOR planned IN
            SELECT * FROM crmm_erasure_plan(target, erasure.kind) p
            WHERE p.step >= at AND p.name <> 'jobs' ORDER BY p.step
        LOOP
            at := planned.step;
            -- A row at its place alone would be another's by now, if it was taken meanwhile.
            EXECUTE format(
                'WITH gone AS (DELETE FROM %1$I WHERE %2$I = ANY (ARRAY(SELECT %2$I FROM %1$I WHERE %3$s '
                'LIMIT %4$s)) AND %3$s RETURNING 1) SELECT count(*) FROM gone',
                planned.name, planned.key, planned.condition, batch) INTO n;
            EXIT WHEN n > 0;
        END LOOP;
    END IF;
    IF n > 0 OR at <> erasure.step THEN
        UPDATE erasures e SET removed = e.removed + n, step = at WHERE e.id = target;
    END IF;
    RETURN n;
END $$;

-- Ends an erasure of which nothing is left but its own row and its checkpoint, which the platform's log
-- keeps: false if there is more, which is then taken from the beginning on.
CREATE OR REPLACE FUNCTION crmm_erase_end(target uuid) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    erasure erasures;
    planned record;
    is_left boolean;
    checkpoint jsonb;
BEGIN
    SELECT * INTO erasure FROM erasures e WHERE e.id = target FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN RETURN false; END IF;
    -- Who still runs since before it was asked for may write of it. A number that was never given out is of
    -- the server from which this one was restored.
    IF erasure.asked_in >= pg_snapshot_xmin(pg_current_snapshot())
        AND erasure.asked_in < pg_snapshot_xmax(pg_current_snapshot())
    THEN
        RETURN false;
    END IF;
    IF erasure.without_log THEN DELETE FROM audit_entries a WHERE a.chain = target; END IF;
    IF EXISTS (SELECT FROM audit_entries a WHERE a.chain = target)
        OR erasure.kind = 1 AND EXISTS (SELECT FROM organizations o WHERE o.partner_id = target)
    THEN
        RETURN false;
    END IF;
    FOR planned IN SELECT * FROM crmm_erasure_plan(target, erasure.kind) LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %I WHERE %s)', planned.name, planned.condition)
            INTO is_left;
        IF is_left THEN
            UPDATE erasures e SET step = 0 WHERE e.id = target;
            RETURN false;
        END IF;
    END LOOP;
    SELECT jsonb_build_object('position', c.position, 'mac', encode(c.mac, 'hex'),
                              'checkpointKey', c.checkpoint_key,
                              'checkpointMac', encode(c.checkpoint_mac, 'hex'))
    INTO checkpoint FROM audit_checkpoints c WHERE c.chain = target;
    DELETE FROM audit_checkpoints c WHERE c.chain = target;
    IF erasure.kind = 1 THEN
        DELETE FROM partners p WHERE p.id = target;
    ELSE
        DELETE FROM organizations o WHERE o.id = target;
    END IF;
    PERFORM crmm_write_audit(
        NULL, NULL, CASE erasure.kind WHEN 1 THEN 'partners.erased' ELSE 'organizations.erased' END, target,
        0::smallint, crmm_shown_erasure(erasure), checkpoint::text);
    DELETE FROM erasures e WHERE e.id = target;
    RETURN true;
END $$;

-- Whether it is a service that is connected, and not the owner, whatever that is called.
CREATE FUNCTION crmm_is_service() RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT session_user IN ('crmm_api', 'crmm_worker', 'crmm_gateway')
$$;

-- The API's login takes out the log of what is being erased alone; of what is in use, the owner's does.
CREATE FUNCTION crmm_require_log(log uuid) RETURNS void LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF crmm_is_service()
        AND NOT EXISTS (SELECT FROM erasures e WHERE e.id = log AND crmm_is_given_up(e))
    THEN
        RAISE EXCEPTION 'this login takes no part of a log out' USING ERRCODE = 'insufficient_privilege';
    END IF;
END $$;

CREATE OR REPLACE FUNCTION crmm_checkpoint_audit(
    log uuid, up_to bigint, its_mac bytea, key text, own_mac bytea
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM crmm_require_log(log);
    IF NOT EXISTS (SELECT FROM audit_entries e
                   WHERE e.chain = log AND e.position = up_to AND e.mac = its_mac) THEN
        RETURN false;
    END IF;
    INSERT INTO audit_checkpoints (chain, position, mac, checkpoint_key, checkpoint_mac)
    VALUES (log, up_to, its_mac, key, own_mac)
    ON CONFLICT (chain) DO UPDATE SET position = EXCLUDED.position, mac = EXCLUDED.mac, at = now(),
        checkpoint_key = EXCLUDED.checkpoint_key, checkpoint_mac = EXCLUDED.checkpoint_mac
    WHERE audit_checkpoints.position < EXCLUDED.position;
    RETURN true;
END $$;

CREATE OR REPLACE FUNCTION crmm_prune_audit(log uuid, batch integer) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    n bigint;
BEGIN
    PERFORM crmm_require_log(log);
    WITH gone AS (
        DELETE FROM audit_entries
        WHERE ctid = ANY (ARRAY(
            SELECT e.ctid FROM audit_entries e
            WHERE e.chain = log
              AND e.position <= (SELECT c.position FROM audit_checkpoints c WHERE c.chain = log)
            ORDER BY e.position LIMIT batch)) RETURNING 1
    )
    SELECT count(*) INTO n FROM gone;
    RETURN n;
END $$;

-- Takes out at most so many entries of a log that does not hold, of what is being erased, and says how many;
-- the platform's log says first what is wrong with it. For the owner's login.
CREATE FUNCTION crmm_discard_audit(log uuid, said text, batch integer) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    n bigint;
BEGIN
    UPDATE erasures e SET without_log = true WHERE e.id = log AND NOT e.without_log;
    IF FOUND THEN
        PERFORM crmm_write_audit(NULL, NULL, 'audit.discarded', log, 0::smallint, NULL, said);
    END IF;
    WITH gone AS (
        DELETE FROM audit_entries
        WHERE ctid = ANY (ARRAY(SELECT e.ctid FROM audit_entries e WHERE e.chain = log LIMIT batch))
        RETURNING 1
    )
    SELECT count(*) INTO n FROM gone;
    RETURN n;
END $$;

CREATE OR REPLACE FUNCTION crmm_audit_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF OLD.position IS NULL
           AND to_jsonb(OLD) - ARRAY['position', 'mac_key', 'mac']
               = to_jsonb(NEW) - ARRAY['position', 'mac_key', 'mac'] THEN
            RETURN NEW;
        END IF;
    ELSIF TG_OP = 'DELETE' THEN
        IF EXISTS (SELECT FROM audit_checkpoints c WHERE c.chain = OLD.chain AND c.position >= OLD.position)
           OR EXISTS (SELECT FROM erasures e WHERE e.id = OLD.chain AND e.without_log) THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'the audit log is never changed' USING ERRCODE = 'insufficient_privilege';
END $$;

-- Whether an organization or a partner, or else the platform, has a log: what is being erased or is gone has
-- none. Whoever writes an entry need not see whose it is.
CREATE FUNCTION crmm_has_log(organization uuid, partner uuid) RETURNS boolean LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = public, pg_temp SET crmm.scope = 'platform' AS $$
    SELECT CASE
        WHEN organization IS NOT NULL
            THEN EXISTS (SELECT FROM organizations o WHERE o.id = organization AND o.state < 2)
        WHEN partner IS NOT NULL THEN EXISTS (SELECT FROM partners p WHERE p.id = partner AND p.state < 2)
        ELSE true END
$$;

CREATE OR REPLACE FUNCTION crmm_write_audit(
    organization uuid, partner uuid, action text, subject uuid, outcome smallint, before text, after text
) RETURNS void LANGUAGE sql VOLATILE AS $$
    -- crmm.actor: kind, id, id of the request and address, one blank between them, '-' for what is not known.
    INSERT INTO audit_entries (chain, id, organization_id, partner_id, at, actor_kind, actor_id, request_id,
                               address, action, subject_id, outcome, before, after)
    SELECT coalesce(organization, partner, '00000000-0000-0000-0000-000000000000'), crmm_uuid7(),
           organization, partner, clock_timestamp(),
           CASE split_part(a.actor, ' ', 1) WHEN 'key' THEN 1 WHEN 'user' THEN 2 WHEN 'nobody' THEN 3
               ELSE CASE WHEN crmm_is_service() THEN 0 ELSE 4 END END,
           nullif(split_part(a.actor, ' ', 2), '-')::uuid, nullif(split_part(a.actor, ' ', 3), '-')::uuid,
           nullif(split_part(a.actor, ' ', 4), '-'), action, subject, outcome, before, after
    FROM (SELECT coalesce(nullif(current_setting('crmm.actor', true), ''), '- - - -') AS actor) a
    WHERE crmm_has_log(organization, partner)
$$;

CREATE OR REPLACE FUNCTION crmm_audit_erasure() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM crmm_write_audit(
        NULL, NULL, CASE NEW.kind WHEN 1 THEN 'partners.erase' ELSE 'organizations.erase' END, NEW.id,
        0::smallint, crmm_shown_erasure(NEW), NULL);
    RETURN NULL;
END $$;

REVOKE ALL ON FUNCTION crmm_shown_erasure(erasures), crmm_is_given_up(erasures), crmm_is_service(),
    crmm_require_log(uuid), crmm_discard_audit(uuid, text, integer), crmm_has_log(uuid, uuid) FROM PUBLIC;
