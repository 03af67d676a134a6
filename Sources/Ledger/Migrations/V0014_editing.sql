-- What of the tenancy can be edited, archived and moved.

-- version counts the edits of a row, for ETag and If-Match. state: 0 active, 1 archived: nothing new is made
-- below an archived row, and its history stays. What stands as JSON text was written by the API and is
-- never looked into here.
ALTER TABLE partners
    ADD COLUMN state smallint NOT NULL DEFAULT 0 CHECK (state IN (0, 1)),
    ADD COLUMN version bigint NOT NULL DEFAULT 1,
    ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN branding text NOT NULL DEFAULT '{}' CHECK (octet_length(branding) <= 16384);
ALTER TABLE organizations
    ADD COLUMN state smallint NOT NULL DEFAULT 0 CHECK (state IN (0, 1)),
    ADD COLUMN version bigint NOT NULL DEFAULT 1,
    ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN time_zone text CHECK (octet_length(time_zone) BETWEEN 1 AND 64),
    ADD COLUMN contacts text NOT NULL DEFAULT '[]' CHECK (octet_length(contacts) <= 131072);
ALTER TABLE sites
    ADD COLUMN state smallint NOT NULL DEFAULT 0 CHECK (state IN (0, 1)),
    ADD COLUMN version bigint NOT NULL DEFAULT 1,
    ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN time_zone text CHECK (octet_length(time_zone) BETWEEN 1 AND 64),
    ADD COLUMN contacts text NOT NULL DEFAULT '[]' CHECK (octet_length(contacts) <= 131072);
-- The state of a device: 0 active, 1 suspended, 2 archived; only an active one may hold a session.
ALTER TABLE devices
    ADD COLUMN version bigint NOT NULL DEFAULT 1,
    ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN display_name text CHECK (octet_length(display_name) BETWEEN 1 AND 200),
    ADD COLUMN custom_fields text NOT NULL DEFAULT '{}' CHECK (octet_length(custom_fields) <= 262144);

-- A table and not an array: the operators of arrays are not leakproof, so that a policy would keep an index
-- from being used.
CREATE TABLE device_tags (
    organization_id uuid NOT NULL,
    tag text NOT NULL CHECK (octet_length(tag) BETWEEN 1 AND 64),
    device_id uuid NOT NULL,
    site_id uuid NOT NULL,
    PRIMARY KEY (organization_id, tag, device_id),
    FOREIGN KEY (organization_id, device_id) REFERENCES devices (organization_id, id)
);
CREATE INDEX device_tags_by_device ON device_tags (organization_id, device_id) WHERE device_id IS NOT NULL;
ALTER TABLE device_tags ENABLE ROW LEVEL SECURITY;
ALTER TABLE device_tags FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON device_tags
    USING (organization_id = ANY ((SELECT crmm_organizations())::uuid[]) OR (SELECT crmm_is_platform())
           OR site_id = (SELECT crmm_site()));

GRANT UPDATE (name, state, version, updated_at, branding) ON partners TO crmm_api;
GRANT UPDATE (name, state, version, updated_at, time_zone, contacts) ON organizations TO crmm_api;
GRANT UPDATE (name, state, version, updated_at, time_zone, contacts) ON sites TO crmm_api;
GRANT SELECT, INSERT, DELETE, UPDATE (site_id) ON device_tags TO crmm_api;
GRANT SELECT ON device_tags TO crmm_worker;
