extension Library {
    /// Limits of what may run now, finer than an organization's cap: decided where refill admits.
    static let limits = #"""
        -- A run of a limited organization is in five lanes: its job, site, kind, device, and device lane. It
        -- takes a place in each from its admission until it leaves `live`, and with nothing else; so a crash
        -- leaks no place, and a run that waits to be claimed is counted as what it is about to be.
        --
        -- lanes: run → organization and five names; taken: "organization name" → runs in it; wanted: the same
        -- → priorities of the queues that have more for it, which are marked when a place becomes free.

        -- Says that PostgreSQL has work for this queue. Each call is another version.
        local function mark(k, queue)
            redis.call('HSET', k.versions, queue, tick(k))
            redis.call('ZADD', k.marks, 'NX', decimal(now()), queue)
        end

        -- Gives back the places of these runs, and marks the queues that wait for them.
        local function leaveLanes(k, runs)
            local seen, fields, order = {}, {}, {}
            for i, text in ipairs(redis.call('HMGET', k.lanes, unpack(runs))) do
                if text and not seen[runs[i]] then
                    seen[runs[i]] = true
                    seen[#seen + 1] = runs[i]
                    local organization, names = string.match(text, '^(%S+) (.*)$')
                    for name in string.gmatch(names, '%S+') do
                        local field = organization .. ' ' .. name
                        if not fields[field] then order[#order + 1] = field end
                        fields[field] = (fields[field] or 0) + 1
                    end
                end
            end
            if #seen == 0 then return end
            redis.call('HDEL', k.lanes, unpack(seen))
            for _, field in ipairs(order) do
                if redis.call('HINCRBY', k.taken, field, -fields[field]) <= 0 then
                    redis.call('HDEL', k.taken, field)
                end
            end
            for i, priorities in ipairs(redis.call('HMGET', k.wanted, unpack(order))) do
                if priorities then
                    redis.call('HDEL', k.wanted, order[i])
                    for priority in string.gmatch(priorities, '%d') do
                        local queue = string.match(order[i], '^%S+') .. ':' .. priority
                        mark(k, queue)
                        redis.call('ZADD', k.marks, 'XX', decimal(now()), queue)
                    end
                end
            end
        end

        -- These runs leave `live`; returns how many were there.
        local function leaveLive(call, k, runs)
            if call.lanes == nil then call.lanes = redis.call('EXISTS', k.lanes) == 1 end
            if call.lanes then leaveLanes(k, runs) end
            return redis.call('HDEL', k.live, unpack(runs))
        end

        -- These runs, {run, names}…, take their places unless they have them.
        local function takeLanes(call, k, organization, rows)
            for i = 1, #rows, 2 do
                if redis.call('HSETNX', k.lanes, rows[i], organization .. ' ' .. rows[i + 1]) == 1 then
                    call.lanes = true
                    for name in string.gmatch(rows[i + 1], '%S+') do
                        redis.call('HINCRBY', k.taken, organization .. ' ' .. name, 1)
                    end
                end
            end
        end

        -- organization, 1 or 0: whether its runs come by `bring` alone
        define('limit', FREE, {'limited'}, function(call, k, args)
            return redis.call(args[3] == '1' and 'SADD' or 'SREM', k.limited, args[2])
        end)

        -- organization, {run, names}… of runs that came without `bring`: they take their places
        local function label(call, k, args)
            local runs, rows = {}, {}
            for i = 3, #args, 2 do runs[#runs + 1] = args[i] end
            if #runs == 0 then return 0 end
            for i, known in ipairs(redis.call('HMGET', k.live, unpack(runs))) do
                if known then
                    rows[#rows + 1] = runs[i]
                    rows[#rows + 1] = args[2 * i + 2]
                end
            end
            takeLanes(call, k, args[2], rows)
            return #rows / 2
        end
        define('label', FREE, {'live', 'lanes', 'taken'}, label)
        """#

    /// Admission under limits, which needs what `admission` has.
    static let bringing = #"""
        -- How many runs the organization's rate lets in now, and milliseconds until the next. Of `rates` the
        -- score is when the bucket will be full again.
        local function tokensOf(k, organization, interval, burst)
            if interval == '' then return math.huge, 0 end
            interval, burst = tonumber(interval), tonumber(burst)
            local time = now()
            local start = math.max(time, tonumber(redis.call('ZSCORE', k.rates, organization) or 0))
            local tokens = burst - (start - time) / interval
            return math.floor(tokens), math.ceil((1 - tokens) * interval), start, interval
        end

        -- organization, priority, version, more (0 or 1), milliseconds a run and runs at once of its rate or
        -- two empty texts, then {run, generation, place, names, limits}… in order. `names` are five lanes,
        -- `limits` a number or - for each.
        -- → admitted, cleared?, how many of the first were looked at, then for each of these the number of
        -- the lane that has no place for it, 0 where it is in Redis
        local BRINGING = {
            'live', 'depth', 'returned', 'slots', 'due', 'held', 'marks', 'versions', 'sequence', 'ready',
            'bell', 'credits', 'paused', 'lanes', 'taken', 'wanted', 'rates', 'running',
        }

        define('bring', STRICT, BRINGING, function(call, k, args)
            local organization, priority, version = args[2], args[3], args[4]
            local queue = organization .. ':' .. priority
            local tokens, wait, start, interval = tokensOf(k, organization, args[6], args[7])
            local space = math.min(room(call, k, queue), tokens)
            if args[7] ~= '' then
                -- What waits here could all start at once.
                space = math.min(space, tonumber(args[7]) - redis.call('XLEN', call.tag .. 'queue:' .. queue))
            end
            local runs, fields, known = {}, {}, {}
            for i = 8, #args, 5 do
                runs[#runs + 1] = args[i]
                for name in string.gmatch(args[i + 3], '%S+') do
                    local field = organization .. ' ' .. name
                    if not known[field] then fields[#fields + 1] = field end
                    known[field] = 0
                end
            end
            if #fields > 0 then
                for i, value in ipairs(redis.call('HMGET', k.taken, unpack(fields))) do
                    known[fields[i]] = tonumber(value or 0)
                end
            end
            local entries, rows, statuses, isFull, seen = {}, {}, {}, false, {}
            local lives = lookUp(k, runs)
            local held = #runs > 0 and redis.call('HMGET', k.lanes, unpack(runs)) or {}
            for i, run in ipairs(runs) do
                local at, status = 5 * i + 3, 0
                local isNew = lives[i].generation < tonumber(args[at + 1]) and not seen[run]
                if isNew then
                    local names = {}
                    for name in string.gmatch(args[at + 3], '%S+') do names[#names + 1] = name end
                    if not held[i] then
                        local number = 0
                        for limit in string.gmatch(args[at + 4], '%S+') do
                            number = number + 1
                            local field = organization .. ' ' .. names[number]
                            if status == 0 and limit ~= '-' and known[field] >= tonumber(limit) then
                                status = number
                                local priorities = redis.call('HGET', k.wanted, field) or ''
                                if not string.find(priorities, priority, 1, true) then
                                    redis.call('HSET', k.wanted, field, priorities .. priority)
                                end
                            end
                        end
                    end
                    if status == 0 then
                        if #entries / 3 >= space then
                            isFull = true
                            break
                        end
                        for j = 0, 2 do entries[#entries + 1] = args[at + j] end
                        if not held[i] then
                            rows[#rows + 1], rows[#rows + 2] = run, args[at + 3]
                            for _, name in ipairs(names) do
                                local field = organization .. ' ' .. name
                                known[field] = known[field] + 1
                            end
                        end
                        seen[run] = true
                    end
                end
                statuses[i] = status
            end
            local admitted = 0
            if #entries > 0 then
                takeLanes(call, k, organization, rows)
                admitted = admit(call, k, organization, priority, entries, #entries / 3)
                if start then
                    redis.call('ZADD', k.rates, decimal(start + admitted * interval), organization)
                end
            end
            local cleared = 0
            if not isFull and args[5] == '0' and redis.call('HGET', k.versions, queue) == version then
                redis.call('ZREM', k.marks, queue)
                redis.call('HDEL', k.versions, queue)
                cleared = 1
            else
                local since = decimal(now())
                if isFull and tokens - admitted < 1 then
                    since = decimal(now() + math.max(1, wait + admitted * interval))
                elseif isFull then
                    since = PARKED
                end
                redis.call('ZADD', k.marks, 'XX', since, queue)
            end
            conclude(call, k)
            return {admitted, cleared, #statuses, unpack(statuses)}
        end)
        """#
}
