-- The audit log: every change, written by triggers in the transaction that makes it, and every refused
-- attempt.

-- A chain belongs to an organization, a partner or (zeros) the platform. An entry is committed without a
-- place in it; a sealer gives it position and mac, which covers the entry and the mac before it.
CREATE TABLE audit_entries (
    chain uuid NOT NULL,
    id uuid NOT NULL,
    -- The organization or the partner whose it is; neither: the platform's.
    organization_id uuid,
    partner_id uuid,
    at timestamptz NOT NULL,
    -- Who: 0 the platform itself, 1 a key, 2 a user, 3 nobody known, 4 the database's own login
    actor_kind smallint NOT NULL,
    actor_id uuid,
    address text,
    request_id uuid,
    -- `table.verb` of a change, `METHOD path` of a refused attempt.
    action text NOT NULL CHECK (octet_length(action) BETWEEN 1 AND 200),
    subject_id uuid,
    -- 0 done, 1 refused
    outcome smallint NOT NULL CHECK (outcome IN (0, 1)),
    -- The row before and after, without what is secret; of a refusal, its code.
    before text,
    after text,
    position bigint CHECK (position > 0),
    mac_key text,
    mac bytea,
    PRIMARY KEY (chain, id),
    CHECK (num_nonnulls(position, mac_key, mac) IN (0, 3))
);
CREATE UNIQUE INDEX audit_entries_by_position ON audit_entries (chain, position) WHERE position IS NOT NULL;
CREATE INDEX audit_entries_unsealed ON audit_entries (chain, id) WHERE position IS NULL;
CREATE INDEX audit_entries_by_id ON audit_entries (id);
CREATE INDEX audit_entries_by_subject ON audit_entries (chain, subject_id, id) WHERE subject_id IS NOT NULL;

-- Where a chain begins after what was before it has been taken out: the count of entries and the mac of the
-- last that are gone, under a mac of their own.
CREATE TABLE audit_checkpoints (
    chain uuid PRIMARY KEY,
    position bigint NOT NULL,
    mac bytea NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    checkpoint_key text NOT NULL,
    checkpoint_mac bytea NOT NULL
);

ALTER TABLE audit_entries ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_entries FORCE ROW LEVEL SECURITY;
ALTER TABLE audit_checkpoints ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_checkpoints FORCE ROW LEVEL SECURITY;
CREATE POLICY seen ON audit_entries FOR SELECT
    USING ((SELECT crmm_is_platform()) OR partner_id = (SELECT crmm_partner())
           OR organization_id = ANY ((SELECT crmm_organizations())::uuid[]));
-- Entries come from the trigger's function alone, whatever the scope: a site's key changes things too.
CREATE POLICY written ON audit_entries FOR INSERT WITH CHECK ((SELECT crmm_scope()) IS NOT NULL);
CREATE POLICY sealed ON audit_entries FOR UPDATE USING ((SELECT crmm_is_platform()));
CREATE POLICY pruned ON audit_entries FOR DELETE USING ((SELECT crmm_is_platform()));
CREATE POLICY platform ON audit_checkpoints USING ((SELECT crmm_is_platform()));

GRANT SELECT, UPDATE (position, mac_key, mac) ON audit_entries TO crmm_api;
GRANT SELECT ON audit_checkpoints TO crmm_api;

-- An entry is never changed but for being sealed, once; it goes only below a checkpoint.
CREATE FUNCTION crmm_audit_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF OLD.position IS NULL
           AND to_jsonb(OLD) - ARRAY['position', 'mac_key', 'mac']
               = to_jsonb(NEW) - ARRAY['position', 'mac_key', 'mac'] THEN
            RETURN NEW;
        END IF;
    ELSIF TG_OP = 'DELETE' THEN
        IF EXISTS (SELECT FROM audit_checkpoints c WHERE c.chain = OLD.chain AND c.position >= OLD.position)
        THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'the audit log is never changed' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER kept BEFORE UPDATE OR DELETE ON audit_entries
    FOR EACH ROW EXECUTE FUNCTION crmm_audit_is_kept();
CREATE TRIGGER kept_whole BEFORE TRUNCATE ON audit_entries
    FOR EACH STATEMENT EXECUTE FUNCTION crmm_audit_is_kept();

-- A row as the log shows it: without what is secret, and without what says nothing to people.
CREATE FUNCTION crmm_shown(shown jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT shown - ARRAY['mac', 'mac_key', 'key_hash', 'previous_hash', 'token_hash', 'assignment', 'sealed']
$$;

CREATE FUNCTION crmm_write_audit(
    organization uuid, partner uuid, action text, subject uuid, outcome smallint, before text, after text
) RETURNS void LANGUAGE sql VOLATILE AS $$
    -- crmm.actor: kind, id, id of the request and address, one blank between them, '-' for what is not known.
    INSERT INTO audit_entries (chain, id, organization_id, partner_id, at, actor_kind, actor_id, request_id,
                               address, action, subject_id, outcome, before, after)
    SELECT coalesce(organization, partner, '00000000-0000-0000-0000-000000000000'), crmm_uuid7(),
           organization, partner, clock_timestamp(),
           CASE split_part(a.actor, ' ', 1) WHEN 'key' THEN 1 WHEN 'user' THEN 2 WHEN 'nobody' THEN 3
               ELSE CASE WHEN session_user LIKE 'crmm\_%' THEN 0 ELSE 4 END END,
           nullif(split_part(a.actor, ' ', 2), '-')::uuid, nullif(split_part(a.actor, ' ', 3), '-')::uuid,
           nullif(split_part(a.actor, ' ', 4), '-'), action, subject, outcome, before, after
    FROM (SELECT coalesce(nullif(current_setting('crmm.actor', true), ''), '- - - -') AS actor) a
$$;
REVOKE ALL ON FUNCTION crmm_write_audit(uuid, uuid, text, uuid, smallint, text, text) FROM PUBLIC;

-- Notes a change of a row; runs as the owner, since services may not write the log.
CREATE FUNCTION crmm_audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
DECLARE
    is_deleted boolean := TG_OP = 'DELETE';
    known jsonb := CASE WHEN is_deleted THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
    organization uuid := known->>'organization_id';
    partner uuid := known->>'partner_id';
BEGIN
    IF TG_TABLE_NAME = 'organizations' THEN
        organization := known->>'id';
    ELSIF TG_TABLE_NAME = 'partners' THEN
        partner := known->>'id';
    ELSIF organization IS NULL AND known->>'site_id' IS NOT NULL THEN
        organization := (SELECT s.organization_id FROM sites s WHERE s.id = (known->>'site_id')::uuid);
    END IF;
    PERFORM crmm_write_audit(
        organization, CASE WHEN organization IS NULL THEN partner END,
        TG_TABLE_NAME || CASE TG_OP WHEN 'INSERT' THEN '.create' WHEN 'UPDATE' THEN '.update'
                                    ELSE '.delete' END,
        coalesce(known->>'id', known->>'device_id', known->>'user_id')::uuid, 0::smallint,
        CASE WHEN TG_OP <> 'INSERT' THEN crmm_shown(to_jsonb(OLD))::text END,
        CASE WHEN NOT is_deleted THEN crmm_shown(to_jsonb(NEW))::text END);
    RETURN NULL;
END $$;

-- Notes an attempt that was refused.
CREATE FUNCTION crmm_audit_refusal(organization uuid, partner uuid, action text, subject uuid, code text)
RETURNS void LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT crmm_write_audit(organization, partner, action, subject, 1::smallint, NULL, code)
$$;
REVOKE ALL ON FUNCTION crmm_audit_refusal(uuid, uuid, text, uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION crmm_audit_refusal(uuid, uuid, text, uuid, text) TO crmm_api;

CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON partners
    FOR EACH ROW EXECUTE FUNCTION crmm_audit();
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON organizations
    FOR EACH ROW EXECUTE FUNCTION crmm_audit();
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON sites
    FOR EACH ROW EXECUTE FUNCTION crmm_audit();
-- Not what agents say of themselves at each hello.
CREATE TRIGGER audit AFTER INSERT OR DELETE
    OR UPDATE OF organization_id, site_id, state, display_name, custom_fields, key_hash ON devices
    FOR EACH ROW EXECUTE FUNCTION crmm_audit();
CREATE TRIGGER audit AFTER INSERT OR DELETE ON device_tags
    FOR EACH ROW EXECUTE FUNCTION crmm_audit();
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF revoked_at ON enrollment_tokens
    FOR EACH ROW EXECUTE FUNCTION crmm_audit();
CREATE TRIGGER audit AFTER INSERT OR DELETE
    OR UPDATE OF partner_id, organization_id, site_id, permissions, expires_at, revoked_at, key_hash,
                 created_by, acts_for_maker ON api_keys
    FOR EACH ROW EXECUTE FUNCTION crmm_audit();
CREATE TRIGGER audit AFTER INSERT OR DELETE
    OR UPDATE OF partner_id, organization_id, email, name, state ON users
    FOR EACH ROW EXECUTE FUNCTION crmm_audit();
CREATE TRIGGER audit AFTER INSERT OR DELETE
    OR UPDATE OF partner_id, organization_id, name, permissions ON roles
    FOR EACH ROW EXECUTE FUNCTION crmm_audit();
CREATE TRIGGER audit AFTER INSERT OR DELETE
    OR UPDATE OF user_id, partner_id, organization_id, site_id, builtin, role_id ON role_bindings
    FOR EACH ROW EXECUTE FUNCTION crmm_audit();
CREATE TRIGGER audit AFTER INSERT ON revocations
    FOR EACH ROW EXECUTE FUNCTION crmm_audit();
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON queue_controls
    FOR EACH ROW EXECUTE FUNCTION crmm_audit();
