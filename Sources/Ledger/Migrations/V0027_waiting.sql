-- Work for devices that are away is committed as waiting, by the API, too; whoever commits it looks again and
-- wakes it if its device has come meanwhile.

-- Moves the waiting runs of devices that are there to queued. It runs as the owner, whom policies may not
-- bind, and judges the caller's scope itself: the API may do this to a run, and nothing else that a device's
-- word decides.
CREATE FUNCTION crmm_wake(organizations uuid[], devices uuid[])
RETURNS TABLE (organization uuid, run uuid, device uuid, its_generation integer, its_lane smallint,
               its_priority smallint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    RETURN QUERY
    WITH waiting AS MATERIALIZED (
        SELECT w.organization_id, w.id
        FROM (SELECT DISTINCT * FROM unnest(organizations, devices)) AS d(organization_id, device_id)
        CROSS JOIN LATERAL (
            SELECT r.organization_id, r.id FROM runs r
            WHERE r.organization_id = d.organization_id AND r.device_id = d.device_id AND r.state = 2
            OFFSET 0
        ) w
        WHERE w.organization_id = ANY ((SELECT crmm_organizations())::uuid[]) OR (SELECT crmm_is_platform())
    ), locked AS MATERIALIZED (
        SELECT r.organization_id, r.id
        FROM (SELECT * FROM waiting w ORDER BY w.organization_id, w.id) i
        CROSS JOIN LATERAL (
            SELECT * FROM runs r WHERE r.organization_id = i.organization_id AND r.id = i.id
            OFFSET 0 FOR UPDATE
        ) r
        WHERE r.state = 2
    )
    UPDATE runs r SET state = 1, generation = r.generation + 1, queued_at = now() FROM locked l
    WHERE r.organization_id = l.organization_id AND r.id = ANY (ARRAY[l.id])
    RETURNING r.organization_id, r.id, r.device_id, r.generation, r.lane, r.priority;
END $$;
REVOKE ALL ON FUNCTION crmm_wake(uuid[], uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION crmm_wake(uuid[], uuid[]) TO crmm_api, crmm_worker, crmm_gateway;
