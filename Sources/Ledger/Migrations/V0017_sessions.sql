-- How people sign in: passwords and second factors, sessions, links that work once, and who tries too often.

-- mac covers the password's hash, the sealed authenticator, the recovery codes and the end.
CREATE TABLE user_credentials (
    user_id uuid PRIMARY KEY REFERENCES users (id),
    password_hash text CHECK (octet_length(password_hash) <= 128),
    -- The secret of the authenticator, sealed; one that has not been confirmed yet counts for nothing.
    sealed bytea,
    confirmed boolean NOT NULL DEFAULT false,
    -- The last step whose code was taken: a code is taken once.
    totp_step bigint NOT NULL DEFAULT 0,
    recovery_hashes bytea[] NOT NULL DEFAULT '{}',
    expires_at timestamptz NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    mac_key text NOT NULL,
    mac bytea NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- mac covers whose it is, the secret's hash, its ends and when a second factor was shown last.
CREATE TABLE sessions (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id),
    secret_hash bytea NOT NULL UNIQUE CHECK (octet_length(secret_hash) = 32),
    -- What it was begun with, for people: the browser or the command line, and from where.
    agent text NOT NULL CHECK (octet_length(agent) <= 200),
    address text,
    expires_at timestamptz NOT NULL,
    idle_seconds integer NOT NULL CHECK (idle_seconds > 0),
    last_seen_at timestamptz NOT NULL,
    stepped_up_at timestamptz,
    version bigint NOT NULL DEFAULT 1,
    mac_key text NOT NULL,
    mac bytea NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX sessions_by_user ON sessions (user_id, id) WHERE user_id IS NOT NULL;

-- A link or code that works once. kind: 1 invitation, 2 new password, 3 the code of a device that wants to
-- sign in, which is nobody's until somebody approves it. mac covers all but used_at.
CREATE TABLE sign_in_links (
    id uuid PRIMARY KEY,
    kind smallint NOT NULL CHECK (kind BETWEEN 1 AND 3),
    user_id uuid REFERENCES users (id),
    secret_hash bytea NOT NULL UNIQUE CHECK (octet_length(secret_hash) = 32),
    -- What a person types who approves a device.
    user_code text UNIQUE CHECK (octet_length(user_code) <= 16),
    agent text CHECK (octet_length(agent) <= 200),
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    version bigint NOT NULL DEFAULT 1,
    mac_key text NOT NULL,
    mac bytea NOT NULL,
    created_by uuid,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX sign_in_links_by_user ON sign_in_links (user_id) WHERE user_id IS NOT NULL;

-- Sign-ins that failed, by the hash of an account's address and of where they came from.
CREATE TABLE sign_in_failures (
    subject bytea PRIMARY KEY CHECK (octet_length(subject) = 32),
    failures integer NOT NULL,
    last_at timestamptz NOT NULL
);

DO $$
DECLARE
    name text;
BEGIN
    -- Nobody but the API itself, on the platform's scope, reads these.
    FOREACH name IN ARRAY ARRAY['user_credentials', 'sessions', 'sign_in_links', 'sign_in_failures'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY platform ON %I USING ((SELECT crmm_is_platform()))', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO crmm_api', name);
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION crmm_shown(shown jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT shown - ARRAY['mac', 'mac_key', 'key_hash', 'previous_hash', 'token_hash', 'assignment', 'sealed',
                         'password_hash', 'secret_hash', 'recovery_hashes', 'user_code']
$$;

-- The log of a person's home has what the person does to sign in.
CREATE OR REPLACE FUNCTION crmm_audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
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
    ELSIF TG_TABLE_NAME IN ('user_credentials', 'sessions', 'sign_in_links') THEN
        SELECT u.organization_id, u.partner_id INTO organization, partner
            FROM users u WHERE u.id = (known->>'user_id')::uuid;
    ELSIF organization IS NULL AND known->>'site_id' IS NOT NULL THEN
        organization := (SELECT s.organization_id FROM sites s WHERE s.id = (known->>'site_id')::uuid);
    END IF;
    -- The code of a device that nobody has approved is a stranger's, and of nobody.
    IF TG_TABLE_NAME = 'sign_in_links' AND known->>'user_id' IS NULL THEN
        RETURN NULL;
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

CREATE TRIGGER audit AFTER INSERT OR DELETE
    OR UPDATE OF password_hash, sealed, confirmed, recovery_hashes ON user_credentials
    FOR EACH ROW EXECUTE FUNCTION crmm_audit();
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF stepped_up_at, secret_hash ON sessions
    FOR EACH ROW EXECUTE FUNCTION crmm_audit();
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON sign_in_links
    FOR EACH ROW EXECUTE FUNCTION crmm_audit();
