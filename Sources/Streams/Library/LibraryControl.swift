extension Library {
    /// What operators and the reconciler do: pause, weights, caps, the sweep, membership, rebuild.
    static let control = #"""
        local SERVICE = {
            'ready', 'finish', 'paused', 'caps', 'slots', 'depth', 'marks', 'bell', 'virtual', 'credits',
            'buckets', 'live', 'running', 'held',
        }

        -- organization or *, a priority or an empty text for all, pause (1) or resume (0) → 1 if it changed
        -- anything. A claim finds by itself that an organization has nothing left but paused priorities;
        -- after a resume of all, `offer` goes through the queues.
        define('pause', FREE, SERVICE, function(call, k, args)
            local organization, priority = args[2], args[3]
            local name = priority == '' and organization or organization .. ':' .. priority
            local changed = redis.call(args[4] == '1' and 'SADD' or 'SREM', k.paused, name)
            if args[4] == '1' and priority == '' then
                if organization == '*' then
                    if redis.call('EXISTS', k.ready) == 1 then
                        redis.call('ZUNIONSTORE', k.finish, 2, k.finish, k.ready, 'AGGREGATE', 'MAX')
                        redis.call('DEL', k.ready)
                    end
                else
                    local tag = redis.call('ZSCORE', k.ready, organization)
                    if tag then leave(k, organization, tonumber(tag)) end
                end
            elseif args[4] == '0' and organization ~= '*' then
                touch(call, organization)
            end
            conclude(call, k)
            return changed
        end)

        -- cursor → the next cursor; the organizations of a page of queues come into service if they may
        define('offer', FREE, SERVICE, function(call, k, args)
            local page = redis.call('HSCAN', k.depth, args[2], 'COUNT', RUNS_A_CALL)
            for i = 1, #page[2], 2 do
                if page[2][i] ~= TABLE then touch(call, string.match(page[2][i], '^[^:]+')) end
            end
            conclude(call, k)
            return page[1]
        end)

        -- organization, interactive runs a second and at once, each a number or an empty text for the default
        define('bucket', FREE, {'caps', 'buckets'}, function(call, k, args)
            for i, name in ipairs({':rate', ':burst'}) do
                if args[2 + i] == '' then
                    redis.call('HDEL', k.caps, args[2] .. name)
                else
                    redis.call('HSET', k.caps, args[2] .. name, args[2 + i])
                end
            end
            redis.call('ZREM', k.buckets, args[2])
            return 1
        end)

        -- organization, weight. What the organization was charged beyond virtual time is charged anew.
        define('weigh', FREE, SERVICE, function(call, k, args)
            local organization, weight, virtual = args[2], tonumber(args[3]), virtualTime(k)
            local field = organization .. ':weight'
            local old = tonumber(redis.call('HGET', k.caps, field) or 1)
            if weight == 1 then
                redis.call('HDEL', k.caps, field)
            else
                redis.call('HSET', k.caps, field, decimal(weight))
            end
            local ready = redis.call('ZSCORE', k.ready, organization)
            local last = redis.call('ZSCORE', k.finish, organization)
            local tag = tonumber(last or ready or 0)
            if tag > virtual then
                -- Nobody waits longer than for a turn.
                tag = virtual + math.min((tag - virtual) * old / weight, math.max(TURN, 1 / weight))
                if ready and last then
                    place(k, organization, tag)
                else
                    redis.call('ZADD', ready and k.ready or k.finish, decimal(tag), organization)
                end
            end
            return 1
        end)

        -- organization, cap or an empty text for none
        define('cap', FREE, SERVICE, function(call, k, args)
            local organization, field = args[2], args[2] .. ':cap'
            if args[3] == '' then
                redis.call('HDEL', k.caps, field)
            else
                redis.call('HSET', k.caps, field, args[3])
            end
            local tag = redis.call('ZSCORE', k.ready, organization)
            if tag then leave(k, organization, tonumber(tag)) end
            touch(call, organization)
            conclude(call, k)
            return 1
        end)

        -- What a queue's stream itself says about how many entries may be claimed; also how many of them came
        -- back. Entries that are pending as leased for ten minutes belong to no lease any more and go back.
        local function audit(call, k, organization, priority)
            local key = queueKey(call, organization, priority)
            local length = redis.call('XLEN', key)
            if length == 0 then return 0, 0 end
            local summary = redis.pcall('XPENDING', key, GROUP)
            if summary.err then
                redis.call('XGROUP', 'CREATE', key, GROUP, '0')
                return length, 0
            end
            local pending = {}
            for _, consumer in ipairs(summary[4] or {}) do pending[consumer[1]] = tonumber(consumer[2]) end
            local returned = pending.returned or 0
            if pending.leased then
                local idle = redis.call('XPENDING', key, GROUP, 'IDLE', 600000, '-', '+', 16, 'leased')
                for _, entry in ipairs(idle) do
                    give(call, organization, priority, 'returned', entry[1])
                    returned = returned + 1
                    pending.leased = pending.leased - 1
                end
            end
            return length - summary[1] + returned, returned
        end

        -- Entries that wait for a lane which has room go back, on a page of them: those in front of them were
        -- taken out before they were claimed, so no slot has told of the room.
        local function reopenSome(call, k, limit)
            local after = redis.call('GET', k.aside)
            local members = redis.call(
                'ZRANGEBYLEX', k.held, after and '(' .. after or '-', '+', 'LIMIT', 0, limit)
            if #members < limit then
                redis.call('DEL', k.aside)
            else
                redis.call('SET', k.aside, members[#members])
            end
            local devices, fields = {}, {}
            for _, member in ipairs(members) do
                local device = string.match(member, '^%S+')
                if devices[#devices] ~= device then
                    devices[#devices + 1], fields[#fields + 1] = device, 'd' .. device
                end
            end
            if #fields == 0 then return end
            for i, taken in ipairs(redis.call('HMGET', k.slots, unpack(fields))) do
                local space = LANE - tonumber(taken or 0)
                if space > 0 then reopen(call, k, devices[i], space) end
            end
        end

        local SWEEPING = {
            'live', 'depth', 'returned', 'slots', 'leases', 'running', 'due', 'held', 'marks', 'ready',
            'finish', 'caps', 'paused', 'bell', 'virtual', 'credits', 'buckets', 'cursor', 'aside',
            'rates',
        }

        -- limit → came into service, moved from due, corrected counters, marks with room again
        define('sweep', FREE, SWEEPING, function(call, k, args)
            local limit, corrected = tonumber(args[2]), 0
            local moved = moveDue(call, k, RUNS_A_CALL)
            local page = redis.call('HSCAN', k.depth, redis.call('GET', k.cursor) or '0', 'COUNT', limit)
            redis.call('SET', k.cursor, page[1])
            for i = 1, #page[2], 2 do
                local field, depth = page[2][i], tonumber(page[2][i + 1])
                local organization, priority = string.match(field, '^(.*):(%d)$')
                if organization then
                    local actual, returned = audit(call, k, organization, priority)
                    if actual ~= depth then corrected = corrected + 1 end
                    shift(call, organization, priority, actual - depth)
                    if returned > 0 then
                        redis.call('HSET', k.returned, field, returned)
                    elseif redis.call('HDEL', k.returned, field) == 1 then
                        corrected = corrected + 1
                    end
                end
            end
            local parked = redis.call('ZRANGEBYSCORE', k.marks, PARKED, PARKED, 'LIMIT', 0, limit)
            local unparked = unpark(call, k, parked)
            reopenSome(call, k, RUNS_A_CALL)
            redis.call('ZREMRANGEBYSCORE', k.finish, '-inf', '(' .. decimal(virtualTime(k)))
            redis.call('ZREMRANGEBYSCORE', k.buckets, '-inf', decimal(now()))
            redis.call('ZREMRANGEBYSCORE', k.rates, '-inf', decimal(now()))
            return {conclude(call, k), moved, corrected, unparked}
        end)

        -- cursor → cursor, then {member, deadline}…
        define('membership', {'no-writes'}, {'running'}, function(call, k, args)
            local page = redis.call('ZSCAN', k.running, args[2], 'COUNT', RUNS_A_CALL)
            return {page[1], unpack(page[2])}
        end)

        -- Adds runs {organization, run, generation, device, deadline}… to `running` as PostgreSQL knows them.
        local function load(call, k, rows, first)
            local runs, lives, loaded = {}, {}, {}
            for i = first, #rows, 5 do runs[#runs + 1] = rows[i + 1] end
            for i, live in ipairs(lookUp(k, runs)) do
                local at = first + 5 * (i - 1)
                local run = {
                    organization = rows[at], run = rows[at + 1], generation = rows[at + 2],
                    device = rows[at + 3], deadline = rows[at + 4],
                    work = rows[at + 1] .. ' ' .. rows[at + 2] .. ' ' .. rows[at + 3],
                }
                if live.generation <= tonumber(run.generation) then
                    if live.id then withdraw(call, k, run.organization, live.priority, live.id) end
                    lives[#lives + 1] = run.run
                    lives[#lives + 1] = run.generation
                end
                loaded[i] = run
            end
            if #lives > 0 then redis.call('HSET', k.live, unpack(lives)) end
            local added = start(call, k, loaded)
            for _, run in ipairs(loaded) do
                if run.started then occupy(call, run.organization, run.device, 1) end
            end
            return added
        end

        -- how many arguments belong to the missing {organization, run, generation, device, deadline}…, these,
        -- then the extra {organization, run, generation, device}… → added, removed
        define('correct', FREE, ENDING, function(call, k, args)
            local border = 2 + tonumber(args[2])
            local added = load(call, k, {unpack(args, 3, border)}, 1)
            local removed = settle(call, k, args, border + 1)
            conclude(call, k)
            return {added, removed}
        end)

        -- Rebuild: while it goes on there is no epoch, so all other functions refuse. Each step names the
        -- epoch that is to be, and a step of a rebuild that was overtaken by another is refused.
        local function rebuilding(name, body)
            redis.register_function{
                function_name = LIBRARY .. '_' .. name,
                flags = FREE,
                callback = function(keys, args)
                    local call = begin(keys[1])
                    local k, epoch = call.names, redis.call('GET', call.names.rebuild)
                    if epoch ~= args[1] then return stale(epoch) end
                    redis.call('PEXPIRE', k.rebuild, 600000)
                    return body(call, k, args)
                end,
            }
        end

        -- the epoch to be
        redis.register_function{
            function_name = LIBRARY .. '_rebuild',
            flags = FREE,
            callback = function(keys, args)
                local k = begin(keys[1]).names
                redis.call('DEL', k.epoch)
                redis.call('SET', k.rebuild, args[1], 'PX', 600000)
                return 1
            end,
        }

        -- keys of the old data set (the further KEYS), found by a scan
        redis.register_function{
            function_name = LIBRARY .. '_clear',
            flags = FREE,
            callback = function(keys, args)
                local k, removed = begin(keys[1]).names, 0
                local epoch = redis.call('GET', k.rebuild)
                if epoch ~= args[1] then return stale(epoch) end
                for i = 2, #keys do
                    if keys[i] ~= k.rebuild and keys[i] ~= k.sequence then
                        removed = removed + redis.call('UNLINK', keys[i])
                    end
                end
                return removed
            end,
        }

        -- {organization, weight, cap, rate, burst, each '' for the default}…
        rebuilding('configure', function(call, k, args)
            for i = 2, #args, 5 do
                for j, name in ipairs({':weight', ':cap', ':rate', ':burst'}) do
                    if args[i + j] ~= '' then redis.call('HSET', k.caps, args[i] .. name, args[i + j]) end
                end
            end
            return 1
        end)

        -- members of `paused`
        rebuilding('halt', function(call, k, args) return redis.call('SADD', k.paused, unpack(args, 2)) end)

        -- organization, {run, names}… of its running runs: it is limited, and these have their places
        rebuilding('relimit', function(call, k, args)
            redis.call('SADD', k.limited, args[2])
            return label(call, k, args)
        end)

        -- {organization, run, generation, device, deadline}…
        rebuilding('load', function(call, k, args)
            local added = load(call, k, args, 2)
            conclude(call, k)
            return added
        end)

        rebuilding('open', function(call, k, args)
            for _, name in ipairs(TABLES) do redis.call('HSET', k[name], TABLE, '') end
            k.tables = {}  -- what was made before was lost
            redis.call('DEL', k.rebuild)
            redis.call('SET', k.epoch, args[1])
            return 1
        end)
        """#
}
