extension Library {
    /// What brings runs into Redis and takes them out before they were claimed: enqueue, marks, refill,
    /// cancel. A mark is of one queue, `organization:priority`.
    static let admission = #"""
        -- Puts entries {run, generation, device}… into the organization's queue, as far as `space` reaches.
        -- Returns how many were new, whether all are in Redis now (those that were there already included),
        -- and how many of the first are.
        local function admit(call, k, organization, priority, entries, space)
            local runs, key = {}, queueKey(call, organization, priority)
            for i = 1, #entries, 3 do runs[#runs + 1] = entries[i] end
            local lives = lookUp(k, runs)
            if redis.call('EXISTS', key) == 0 then
                redis.call('XGROUP', 'CREATE', key, GROUP, '0', 'MKSTREAM')
            end
            local values, admitted, complete, seen, passed = {}, 0, true, {}, #runs
            for i, run in ipairs(runs) do
                local generation, device = entries[3 * i - 1], entries[3 * i]
                local live = seen[run] and parseLive(seen[run]) or lives[i]
                if live.generation < tonumber(generation) then
                    if admitted >= space then
                        complete, passed = false, i - 1
                        break
                    end
                    if live.id then withdraw(call, k, organization, live.priority, live.id) end
                    local id = redis.call('XADD', key, '*', 'e', run .. ' ' .. generation .. ' ' .. device)
                    local value = liveText(generation, priority, id, '0')
                    seen[run], admitted = value, admitted + 1
                    values[#values + 1], values[#values + 2] = run, value
                end
            end
            if #values > 0 then redis.call('HSET', k.live, unpack(values)) end
            shift(call, organization, priority, admitted)
            -- Interactive runs do not wait for the turn of what their organization has queued before.
            if admitted > 0 and priority == PRIORITIES[1] then call.urgent = organization end
            return admitted, complete, passed
        end

        local ADMISSION = {
            'live', 'depth', 'returned', 'slots', 'due', 'held', 'marks', 'versions', 'sequence', 'ready',
            'bell', 'credits', 'paused', 'limited', 'lanes', 'taken', 'wanted', 'running',
        }

        -- organization, priority, then {run, generation, device}… → marked?, admitted
        define('enqueue', STRICT, ADMISSION, function(call, k, args)
            local organization, queue = args[2], args[2] .. ':' .. args[3]
            local marked, admitted, complete = redis.call('ZSCORE', k.marks, queue), 0, false
            if not marked and redis.call('SISMEMBER', k.limited, organization) == 0 then
                local space = room(call, k, queue)
                if space > 0 then
                    admitted, complete = admit(call, k, organization, args[3], {unpack(args, 4)}, space)
                end
            end
            if not complete then mark(k, queue) end
            conclude(call, k)
            return {complete and 0 or 1, admitted}
        end)

        -- organization, priority, version, more (0 or 1), then {run, generation, device}… → admitted,
        -- cleared?, all?, how many of the first are in Redis now
        define('refill', STRICT, ADMISSION, function(call, k, args)
            local organization, queue, version = args[2], args[2] .. ':' .. args[3], args[4]
            local entries = {unpack(args, 6)}
            if redis.call('SISMEMBER', k.limited, organization) == 1 then return {0, 0, 0, 0} end
            local admitted, complete, passed = 0, true, 0
            if #entries > 0 then
                local space = math.max(0, room(call, k, queue))
                admitted, complete, passed = admit(call, k, organization, args[3], entries, space)
            end
            local cleared = 0
            if complete and args[5] == '0' and redis.call('HGET', k.versions, queue) == version then
                redis.call('ZREM', k.marks, queue)
                redis.call('HDEL', k.versions, queue)
                cleared = 1
            else
                -- Behind the others: marks sit in the order of their last refill.
                local since = hasRoom(call, k, queue) and decimal(now()) or PARKED
                redis.call('ZADD', k.marks, 'XX', since, queue)
            end
            conclude(call, k)
            return {admitted, cleared, complete and 1 or 0, passed}
        end)

        -- organization:priority…
        define('mark', FREE, {'marks', 'versions', 'sequence'}, function(call, k, args)
            for i = 2, #args do mark(k, args[i]) end
            return #args - 1
        end)

        -- limit, hint milliseconds → {organization:priority, version, room}…, those refilled longest ago
        -- first. Each is left to the caller for the time of the hint.
        local MARKED = {'marks', 'versions', 'depth', 'slots', 'live', 'running', 'held'}
        define('marked', FREE, MARKED, function(call, k, args)
            local limit, time, reply = tonumber(args[2]), now(), {}
            makeTable(k, 'marks')
            local marked = redis.call(
                'ZRANGEBYSCORE', k.marks, '-inf', decimal(time), 'LIMIT', 0, RUNS_A_CALL)
            for _, queue in ipairs(marked) do
                if #reply >= 3 * limit then break end
                if hasRoom(call, k, queue) then
                    redis.call('ZADD', k.marks, 'XX', decimal(time + tonumber(args[3])), queue)
                    reply[#reply + 1] = queue
                    reply[#reply + 1] = redis.call('HGET', k.versions, queue) or '0'
                    reply[#reply + 1] = room(call, k, queue)
                else
                    redis.call('ZADD', k.marks, 'XX', PARKED, queue)
                end
            end
            return reply
        end)

        -- Removes a run that waits or is leased from `live` and from where it waits; says whether it was
        -- there.
        local function forget(call, k, organization, run, live)
            if not live.id then return 0 end
            withdraw(call, k, organization, live.priority, live.id)
            return leaveLive(call, k, {run})
        end

        -- {organization, run}… → how many will not be claimed any more
        define('cancel', FREE, ADMISSION, function(call, k, args)
            local runs, cancelled = {}, 0
            for i = 3, #args, 2 do runs[#runs + 1] = args[i] end
            for i, live in ipairs(lookUp(k, runs)) do
                cancelled = cancelled + forget(call, k, args[2 * i], runs[i], live)
            end
            conclude(call, k)
            return cancelled
        end)
        """#
}
