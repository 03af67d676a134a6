extension Library {
    /// What work costs that is measured: an average by organization, charged at the claim, and what it was
    /// more or less than that, charged at the end. The runs of devices cost 1 each and are not measured, so a
    /// partition of theirs has no key `costs`.
    static let cost = #"""
        local COSTS_MOST = 10000  -- organizations whose average is remembered

        -- What a claim costs each of these organizations.
        local function costs(k, organizations)
            local reply = {}
            for i = 1, #organizations do reply[i] = 1 end
            if #organizations == 0 or redis.call('EXISTS', k.costs) == 0 then return reply end
            for i, value in ipairs(redis.call('HMGET', k.costs, unpack(organizations))) do
                reply[i] = tonumber(value or 1)
            end
            return reply
        end

        -- {organization, cost}…
        define('charge', FREE, {'costs', 'caps', 'ready', 'finish', 'virtual'}, function(call, k, args)
            local virtual = virtualTime(k)
            for i = 2, #args, 2 do
                local organization, measured = args[i], tonumber(args[i + 1])
                local average = costs(k, {organization})[1]
                local weight = tonumber(redis.call('HGET', k.caps, organization .. ':weight') or 1)
                -- Who is served ahead of what it was charged has both tags.
                local key, tag = k.finish, redis.call('ZSCORE', k.finish, organization)
                if not tag then
                    tag = redis.call('ZSCORE', k.ready, organization)
                    key = tag and k.ready or k.finish
                end
                -- Nobody gets credit beyond virtual time.
                local start = tonumber(tag or virtual) + (measured - average) / weight
                if start > virtual or tag then
                    redis.call('ZADD', key, decimal(math.max(virtual, start)), organization)
                end
                average = average + (measured - average) / 5
                redis.call('HSET', k.costs, organization, decimal(math.max(average, 0.001)))
                if redis.call('HLEN', k.costs) > COSTS_MOST then
                    redis.call('HDEL', k.costs, redis.call('HRANDFIELD', k.costs))
                end
            end
            return (#args - 1) / 2
        end)
        """#
}
