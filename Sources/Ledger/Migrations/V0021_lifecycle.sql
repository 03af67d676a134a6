-- Archiving, moving and erasing parts of the tenancy.

-- closed: a level above is archived. It stands with the row, so that a site's scope, which sees nothing above
-- the site, knows it too.
ALTER TABLE organizations ADD COLUMN closed boolean NOT NULL DEFAULT false;
ALTER TABLE sites ADD COLUMN closed boolean NOT NULL DEFAULT false;
GRANT UPDATE (closed) ON organizations, sites TO crmm_api;
GRANT SELECT (organization_id, id, state, closed) ON sites TO crmm_gateway;

-- 2: what is left of it is being erased; nobody sees it any more.
ALTER TABLE organizations DROP CONSTRAINT organizations_state_check,
    ADD CONSTRAINT organizations_state_check CHECK (state IN (0, 1, 2));
CREATE INDEX organizations_erasing ON organizations (id) WHERE state = 2;
CREATE INDEX devices_in_use ON devices (organization_id, site_id, id) WHERE state < 2;

-- A device that goes to another organization takes its certificates and tags along.
ALTER TABLE certificates DROP CONSTRAINT certificates_organization_id_device_id_fkey,
    ADD FOREIGN KEY (organization_id, device_id) REFERENCES devices (organization_id, id) ON UPDATE CASCADE;
ALTER TABLE device_tags DROP CONSTRAINT device_tags_organization_id_device_id_fkey,
    ADD FOREIGN KEY (organization_id, device_id) REFERENCES devices (organization_id, id) ON UPDATE CASCADE;
GRANT UPDATE (partner_id, mac_key, mac) ON organizations TO crmm_api;

-- Each of two organizations reads in its log of a device that went from one to the other.
CREATE FUNCTION crmm_audit_move() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM crmm_write_audit(OLD.organization_id, NULL, 'devices.leave', OLD.id, 0::smallint,
                             crmm_shown(to_jsonb(OLD))::text, NULL);
    PERFORM crmm_write_audit(NEW.organization_id, NULL, 'devices.arrive', NEW.id, 0::smallint, NULL,
                             crmm_shown(to_jsonb(NEW))::text);
    RETURN NULL;
END $$;
DROP TRIGGER audit ON devices;
CREATE TRIGGER audit AFTER INSERT OR DELETE ON devices FOR EACH ROW EXECUTE FUNCTION crmm_audit();
CREATE TRIGGER audit_edit AFTER UPDATE OF site_id, state, display_name, custom_fields, key_hash ON devices
    FOR EACH ROW WHEN (OLD.organization_id = NEW.organization_id) EXECUTE FUNCTION crmm_audit();
CREATE TRIGGER audit_move AFTER UPDATE OF organization_id ON devices
    FOR EACH ROW WHEN (OLD.organization_id <> NEW.organization_id) EXECUTE FUNCTION crmm_audit_move();
