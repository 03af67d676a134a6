-- How far one act may reach: a guard for each partner, and what waits for a second person.

-- mac covers the partner, mac_key, version, expires_at and every threshold. A partner that never edited its
-- guard has no row, and the built-in thresholds hold. Each edit enters the partner and the row's version into
-- the list of revocations, so a row that is taken away or put back is missed: then nothing is let through.
CREATE TABLE guards (
    partner_id uuid PRIMARY KEY REFERENCES partners (id),
    -- A submission that reaches more devices than this has their number confirmed.
    confirm_above integer NOT NULL CHECK (confirm_above >= 0),
    -- One that reaches more than this waits for a second person; null: none does.
    approve_above integer CHECK (approve_above >= 0),
    -- Permissions that a person uses only with a second factor that was shown so many seconds ago at most.
    step_up text[] NOT NULL,
    step_up_seconds integer NOT NULL CHECK (step_up_seconds > 0),
    expires_at timestamptz NOT NULL,
    version bigint NOT NULL,
    mac_key text NOT NULL,
    mac bytea NOT NULL,
    updated_by uuid,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- A submission that waits for a second person. mac covers all that says what is to be done, where, by whom
-- it was asked and until when; not what became of it: once that is decided, the id is in the list of
-- revocations.
CREATE TABLE approvals (
    id uuid PRIMARY KEY,
    -- The level that holds all it reaches: at most one of the three ids, none is the platform.
    partner_id uuid REFERENCES partners (id),
    organization_id uuid REFERENCES organizations (id),
    site_id uuid REFERENCES sites (id),
    -- 1 a job, 2 a bulk of jobs, 3 the retry of a job (Domain.ApprovalKind)
    kind smallint NOT NULL CHECK (kind BETWEEN 1 AND 3),
    -- The exact body that was sent, and the job that is to be retried.
    body bytea NOT NULL,
    subject_id uuid,
    idempotency_key text CHECK (octet_length(idempotency_key) BETWEEN 1 AND 200),
    -- How many devices it reached when it was asked for: it reaches no more.
    devices integer NOT NULL CHECK (devices >= 0),
    -- Who asked, of which kind (1 a key, 2 a person), and the makers of a key up to the first.
    asked_by uuid NOT NULL,
    asker_kind smallint NOT NULL CHECK (asker_kind IN (1, 2)),
    makers uuid[] NOT NULL,
    expires_at timestamptz NOT NULL,
    mac_key text NOT NULL,
    mac bytea NOT NULL,
    created_at timestamptz NOT NULL,
    -- 0 awaiting approval, 1 approved, 2 rejected, 3 approved but refused then (Domain.ApprovalState)
    state smallint NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 3),
    decided_by uuid,
    decided_at timestamptz,
    -- What came of it: the first job, or the code of the refusal.
    job_id uuid,
    refusal text CHECK (octet_length(refusal) BETWEEN 1 AND 64),
    CHECK (num_nonnulls(partner_id, organization_id, site_id) <= 1)
);
CREATE INDEX approvals_by_organization ON approvals (organization_id, id) WHERE organization_id IS NOT NULL;
CREATE UNIQUE INDEX approvals_by_idempotency_key ON approvals (asked_by, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

-- A job for a site or an organization makes no more runs than this, whoever enrols between its submission and
-- its expansion; null: as many as there are. And whether devices were left out by that.
ALTER TABLE jobs
    ADD COLUMN devices_max integer CHECK (devices_max > 0),
    ADD COLUMN left_out boolean NOT NULL DEFAULT false;

ALTER TABLE guards ENABLE ROW LEVEL SECURITY;
ALTER TABLE guards FORCE ROW LEVEL SECURITY;
ALTER TABLE approvals ENABLE ROW LEVEL SECURITY;
ALTER TABLE approvals FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON guards
    USING ((SELECT crmm_is_platform()) OR partner_id = (SELECT crmm_partner()));
CREATE POLICY tenant ON approvals
    USING ((SELECT crmm_is_platform()) OR partner_id = (SELECT crmm_partner())
           OR organization_id = ANY ((SELECT crmm_organizations())::uuid[])
           OR site_id = (SELECT crmm_site())
           OR site_id IN (SELECT s.id FROM sites s WHERE s.id = approvals.site_id));

GRANT SELECT, INSERT, UPDATE ON guards TO crmm_api;
GRANT SELECT, INSERT, UPDATE (state, decided_by, decided_at, job_id, refusal) ON approvals TO crmm_api;
GRANT UPDATE (left_out) ON jobs TO crmm_worker;

-- Notes an approval without what is to be run, which may hold what nobody should read.
CREATE FUNCTION crmm_audit_approval() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
DECLARE
    organization uuid := NEW.organization_id;
BEGIN
    IF NEW.site_id IS NOT NULL THEN
        organization := (SELECT s.organization_id FROM sites s WHERE s.id = NEW.site_id);
    END IF;
    PERFORM crmm_write_audit(
        organization, CASE WHEN organization IS NULL THEN NEW.partner_id END,
        'approvals.' || CASE TG_OP WHEN 'INSERT' THEN 'create' ELSE 'update' END, NEW.id, 0::smallint,
        CASE WHEN TG_OP <> 'INSERT' THEN (crmm_shown(to_jsonb(OLD)) - 'body')::text END,
        (crmm_shown(to_jsonb(NEW)) - 'body')::text);
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON approvals
    FOR EACH ROW EXECUTE FUNCTION crmm_audit_approval();
CREATE TRIGGER audit AFTER INSERT OR DELETE
    OR UPDATE OF confirm_above, approve_above, step_up, step_up_seconds ON guards
    FOR EACH ROW EXECUTE FUNCTION crmm_audit();
