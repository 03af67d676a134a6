-- Secrets: values with a name that scripts are given, and those that are on their way to a device.

-- A secret of the platform (no id), a partner, an organization or a site. What it is lies sealed under a key
-- outside PostgreSQL, for these ids, the name and the version: a row that is moved or renamed opens no more.
CREATE TABLE secrets (
    id uuid PRIMARY KEY,
    partner_id uuid REFERENCES partners (id),
    -- Of a site too.
    organization_id uuid REFERENCES organizations (id),
    site_id uuid,
    -- Whose it is, zeros for the platform.
    owner uuid NOT NULL GENERATED ALWAYS AS
        (coalesce(site_id, organization_id, partner_id, '00000000-0000-0000-0000-000000000000'::uuid)) STORED,
    name text NOT NULL CHECK (name ~ '^[a-z][a-z0-9_]{0,63}$'),
    description text NOT NULL CHECK (octet_length(description) <= 200),
    -- The value with its salt, sealed, and after it the one before, for jobs that were signed for that. The
    -- version is the first one's; the other's is one less.
    sealed bytea[] NOT NULL CHECK (cardinality(sealed) BETWEEN 1 AND 2),
    secret_version bigint NOT NULL DEFAULT 1 CHECK (secret_version > 0),
    version bigint NOT NULL DEFAULT 1,
    created_by uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (owner, name),
    FOREIGN KEY (organization_id, site_id) REFERENCES sites (organization_id, id),
    CHECK (partner_id IS NULL OR organization_id IS NULL),
    CHECK (site_id IS NULL OR organization_id IS NOT NULL)
);
CREATE INDEX secrets_by_organization ON secrets (organization_id, name) WHERE organization_id IS NOT NULL;

-- What a gateway asks for an attempt that it is about to send, and the API's answer: the secrets sealed to
-- the device's key, in the order of the job's statement, or why there is none. The gateway takes the row away
-- with the answer; what nobody takes goes after a minute. Not logged: a crash empties it, and the gateway
-- asks again.
CREATE UNLOGGED TABLE secret_requests (
    organization_id uuid NOT NULL,
    run_id uuid NOT NULL,
    token uuid NOT NULL,
    job_id uuid NOT NULL,
    device_id uuid NOT NULL,
    -- The public key that the device has shown, which the API compares with the signed assignment.
    device_key bytea NOT NULL CHECK (octet_length(device_key) BETWEEN 1 AND 256),
    sealed bytea[] CHECK (cardinality(sealed) BETWEEN 1 AND 16),
    refusal text CHECK (octet_length(refusal) BETWEEN 1 AND 500),
    requested_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, run_id),
    CHECK (sealed IS NULL OR refusal IS NULL)
);
CREATE INDEX secret_requests_open ON secret_requests (requested_at)
    WHERE sealed IS NULL AND refusal IS NULL;
CREATE INDEX secret_requests_by_age ON secret_requests (requested_at);

-- Whether a job's script is given secrets, as its statement says: the gateway then asks for them.
ALTER TABLE jobs ADD COLUMN has_secrets boolean NOT NULL DEFAULT false;

ALTER TABLE secrets ENABLE ROW LEVEL SECURITY;
ALTER TABLE secrets FORCE ROW LEVEL SECURITY;
ALTER TABLE secret_requests ENABLE ROW LEVEL SECURITY;
ALTER TABLE secret_requests FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON secrets
    USING ((SELECT crmm_is_platform()) OR partner_id = (SELECT crmm_partner())
           OR organization_id = ANY ((SELECT crmm_organizations())::uuid[])
           OR site_id = (SELECT crmm_site()));
CREATE POLICY tenant ON secret_requests
    USING (organization_id = ANY ((SELECT crmm_organizations())::uuid[]) OR (SELECT crmm_is_platform()));

GRANT SELECT, INSERT, DELETE ON secrets TO crmm_api;
GRANT UPDATE (sealed, secret_version, version, updated_at) ON secrets TO crmm_api;
GRANT SELECT, DELETE, UPDATE (sealed, refusal) ON secret_requests TO crmm_api;
GRANT SELECT, INSERT, DELETE ON secret_requests TO crmm_gateway;
GRANT UPDATE (token, job_id, device_id, device_key, sealed, refusal, requested_at) ON secret_requests
    TO crmm_gateway;

-- The log never has `sealed`: crmm_shown leaves it out.
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF secret_version ON secrets
    FOR EACH ROW EXECUTE FUNCTION crmm_audit();
