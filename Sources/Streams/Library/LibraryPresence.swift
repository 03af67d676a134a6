extension Library {
    /// Who holds which device, and what a gateway has to deliver.
    static let presence = #"""
        -- gateway, device… → the session number of each, later than all before
        define('present', FREE, {'presence', 'sequence'}, function(call, k, args)
            local values, numbers = {}, {}
            for i = 3, #args do
                numbers[#numbers + 1] = tick(k)
                values[#values + 1] = args[i]
                values[#values + 1] = args[2] .. ' ' .. numbers[#numbers]
            end
            redis.call('HSET', k.presence, unpack(values))
            return numbers
        end)

        -- gateway, {device, session}… → 1 where it was written, 0 where a later session is known
        define('republish', FREE, {'presence'}, function(call, k, args)
            local reply, devices = {}, {}
            for i = 3, #args, 2 do devices[#devices + 1] = args[i] end
            for i, value in ipairs(redis.call('HMGET', k.presence, unpack(devices))) do
                local known = value and tonumber(string.match(value, ' (%d+)$')) or 0
                local session = args[2 * i + 2]
                reply[i] = known <= tonumber(session) and 1 or 0
                if reply[i] == 1 then
                    redis.call('HSET', k.presence, devices[i], args[2] .. ' ' .. session)
                end
            end
            return reply
        end)

        -- device, gateway, session → 1 where this very session was there
        define('absent', FREE, {'presence'}, function(call, k, args)
            if redis.call('HGET', k.presence, args[2]) ~= args[3] .. ' ' .. args[4] then return 0 end
            return redis.call('HDEL', k.presence, args[2])
        end)

        -- An inbox belongs to a gateway, not to a partition: these functions know no epoch.
        local function inbox(name, body)
            redis.register_function{function_name = LIBRARY .. '_' .. name, flags = FREE, callback = body}
        end

        -- limit, milliseconds the inbox lives without a word from its gateway, payload → 1, or 0 when it is
        -- full
        inbox('deliver', function(keys, args)
            if redis.call('XLEN', keys[1]) >= tonumber(args[1]) then return 0 end
            redis.call('XADD', keys[1], '*', 'p', args[3])
            redis.call('PEXPIRE', keys[1], args[2])
            return 1
        end)

        -- limit → payloads, which are gone then
        inbox('drain', function(keys, args)
            local payloads, ids = {}, {}
            for i, entry in ipairs(redis.call('XRANGE', keys[1], '-', '+', 'COUNT', args[1])) do
                ids[i], payloads[i] = entry[1], entry[2][2]
            end
            if #ids > 0 then redis.call('XDEL', keys[1], unpack(ids)) end
            if redis.call('XLEN', keys[1]) == 0 then redis.call('DEL', keys[1]) end
            return payloads
        end)
        """#
}
