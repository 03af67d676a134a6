extension Library {
    /// How claims end: acknowledge, release, settle, renew, reclaim.
    static let settlement = #"""
        -- A lease names all that its end needs: owner organization priority entry run generation device
        -- number.
        local function parseLease(lease)
            local find, sub = string.find, string.sub
            local first = find(lease, ' ', 1, true) + 1       -- the organization
            local entry = first + ID + 3
            local run = find(lease, ' ', entry, true) + 1
            local generation = run + ID + 1
            local device = find(lease, ' ', generation, true) + 1
            local number = find(lease, ' ', device, true) + 1
            return {
                lease = lease, organization = sub(lease, first, first + ID - 1),
                priority = sub(lease, entry - 2, entry - 2), id = sub(lease, entry, run - 2),
                run = sub(lease, run, run + ID - 1), generation = sub(lease, generation, device - 2),
                device = sub(lease, device, number - 2), work = sub(lease, run, number - 2),
                held = false, current = false, started = false, crashes = 0,
            }
        end

        -- Ends these leases. Returns their claims with what `live` says about them. `held`: the lease existed
        -- until now; `current`: the run is to be executed still, by this entry. The caller frees the slots.
        local function endLeases(k, leases)
            local claims, runs, seen = {}, {}, {}
            if #leases == 0 then return claims end
            for i, lease in ipairs(leases) do
                claims[i] = parseLease(lease)
                runs[i] = claims[i].run
            end
            local deadlines = redis.call('ZMSCORE', k.leases, unpack(leases))
            redis.call('ZREM', k.leases, unpack(leases))
            for i, value in ipairs(redis.call('HMGET', k.live, unpack(runs))) do
                local claim = claims[i]
                claim.held = deadlines[i] and not seen[claim.lease]
                seen[claim.lease] = true
                if value == liveText(claim.generation, claim.priority, claim.id, '0') then
                    claim.current = true
                elseif value then
                    local live = parseLive(value)
                    claim.crashes = live.crashes
                    claim.current = live.id == claim.id and live.priority == claim.priority
                        and live.generation == tonumber(claim.generation)
                end
            end
            return claims
        end

        -- The entries of `claims` leave their streams, a stream at a time.
        local function discardAll(call, claims)
            local batches = {}
            for _, claim in ipairs(claims) do
                local field = claim.organization .. ':' .. claim.priority
                local batch = batches[field]
                if not batch then
                    batch = {}
                    batches[field], batches[#batches + 1] = batch, claim
                end
                batch[#batch + 1] = claim.id
            end
            for _, claim in ipairs(batches) do
                local key = queueKey(call, claim.organization, claim.priority)
                local ids = batches[claim.organization .. ':' .. claim.priority]
                redis.call('XACK', key, GROUP, unpack(ids))
                redis.call('XDEL', key, unpack(ids))
                shift(call, claim.organization, claim.priority, 0)
            end
        end

        -- Memberships of `running`: organization run generation device, with a deadline.
        local function membership(organization, run, generation, device)
            return organization .. ' ' .. run .. ' ' .. generation .. ' ' .. device
        end

        -- Adds runs to `running` unless they are there, and counts those; the slot of each that has `started`
        -- is the caller's to take. Returns how many were not there.
        local function start(call, k, runs)
            if #runs == 0 then return 0 end
            local members, values, seen = {}, {}, {}
            for i, run in ipairs(runs) do
                members[i] = run.organization .. ' ' .. run.work
            end
            for i, score in ipairs(redis.call('ZMSCORE', k.running, unpack(members))) do
                local run, member = runs[i], members[i]
                if not score and not seen[member] then
                    seen[member], run.started = true, true
                    values[#values + 1], values[#values + 2] = run.deadline, member
                    count(call, 'r' .. run.organization, 1)
                end
            end
            if #values > 0 then redis.call('ZADD', k.running, unpack(values)) end
            return #values / 2
        end

        local ENDING = {
            'live', 'depth', 'returned', 'slots', 'leases', 'running', 'due', 'held', 'marks', 'ready',
            'finish', 'caps', 'paused', 'bell', 'virtual', 'credits', 'lanes', 'taken', 'wanted',
        }

        -- deadline, how many are dispatched, then leases: the dispatched, after them the dropped
        -- → started, lost (leases that were reclaimed before)
        define('acknowledge', FREE, ENDING, function(call, k, args)
            local dispatched, leases = tonumber(args[3]), {unpack(args, 4)}
            local ended, lives, forgotten, running, lost = {}, {}, {}, {}, 0
            local claims = endLeases(k, leases)
            for i, claim in ipairs(claims) do
                if claim.held then
                    ended[#ended + 1] = claim
                else
                    lost = lost + 1
                end
                if i > dispatched then
                    if claim.held and claim.current then forgotten[#forgotten + 1] = claim.run end
                elseif claim.current then
                    -- It is dispatched for certain: what a reclaim has put back must not be claimed again.
                    if not claim.held then withdraw(call, k, claim.organization, claim.priority, claim.id) end
                    claim.deadline = args[2]
                    running[#running + 1] = claim
                    lives[#lives + 1] = claim.run
                    lives[#lives + 1] = claim.generation
                end
            end
            discardAll(call, ended)
            if #forgotten > 0 then leaveLive(call, k, forgotten) end
            if #lives > 0 then redis.call('HSET', k.live, unpack(lives)) end
            local started = start(call, k, running)
            -- The slot of a lease becomes that of the membership.
            for _, claim in ipairs(claims) do
                local change = (claim.started and 1 or 0) - (claim.held and 1 or 0)
                if change ~= 0 then occupy(call, claim.organization, claim.device, change) end
            end
            conclude(call, k)
            return {started, lost}
        end)

        -- delay in milliseconds, then leases → how many wait again
        define('release', FREE, ENDING, function(call, k, args)
            local delay, released, ended = tonumber(args[2]), 0, {}
            local due = decimal(now() + delay)
            for _, claim in ipairs(endLeases(k, {unpack(args, 3)})) do
                if claim.held then
                    occupy(call, claim.organization, claim.device, -1)
                    if not claim.current then
                        ended[#ended + 1] = claim
                    elseif delay > 0 then
                        give(call, claim.organization, claim.priority, 'delayed', claim.id)
                        local member = claim.organization .. ' ' .. claim.priority .. ' ' .. claim.id
                        redis.call('ZADD', k.due, due, member)
                        released = released + 1
                    else
                        giveBack(call, claim.organization, claim.priority, claim.id)
                        released = released + 1
                    end
                end
            end
            discardAll(call, ended)
            conclude(call, k)
            return released
        end)

        -- Ends these memberships; returns how many there were. A run whose result overtook its
        -- acknowledgement leaves `live` here, by which `acknowledge` knows that it is not to start.
        local function settle(call, k, rows, first)
            local members, runs, settled = {}, {}, 0
            for i = first, #rows, 4 do
                members[#members + 1] = membership(rows[i], rows[i + 1], rows[i + 2], rows[i + 3])
                runs[#runs + 1] = rows[i + 1]
            end
            if #members == 0 then return 0 end
            local deadlines, seen, forgotten = redis.call('ZMSCORE', k.running, unpack(members)), {}, {}
            redis.call('ZREM', k.running, unpack(members))
            for i, value in ipairs(redis.call('HMGET', k.live, unpack(runs))) do
                local at = first + 4 * (i - 1)
                local organization, generation, device = rows[at], rows[at + 2], rows[at + 3]
                if deadlines[i] and not seen[members[i]] then
                    seen[members[i]] = true
                    occupy(call, organization, device, -1)
                    count(call, 'r' .. organization, -1)
                    settled = settled + 1
                end
                if value == generation then
                    forgotten[#forgotten + 1] = runs[i]
                elseif value then
                    local live = parseLive(value)
                    if live.generation <= tonumber(generation) then
                        if live.id then withdraw(call, k, organization, live.priority, live.id) end
                        forgotten[#forgotten + 1] = runs[i]
                    end
                end
            end
            if #forgotten > 0 then leaveLive(call, k, forgotten) end
            return settled
        end

        -- {organization, run, generation, device}… → how many were members
        define('settle', FREE, ENDING, function(call, k, args)
            local settled = settle(call, k, args, 2)
            conclude(call, k)
            return settled
        end)

        -- Puts the entries of these leases back to the head of their queues; returns {lease, crashes}…
        local function giveUp(call, k, leases, crash)
            local reply, ended, lives = {}, {}, {}
            for _, claim in ipairs(endLeases(k, leases)) do
                if claim.held then occupy(call, claim.organization, claim.device, -1) end
                if claim.held and claim.current then
                    local crashes = claim.crashes + crash
                    giveBack(call, claim.organization, claim.priority, claim.id)
                    lives[#lives + 1] = claim.run
                    lives[#lives + 1] = liveText(claim.generation, claim.priority, claim.id, crashes)
                    reply[#reply + 1] = claim.lease
                    reply[#reply + 1] = crashes
                elseif claim.held then
                    ended[#ended + 1] = claim
                end
            end
            discardAll(call, ended)
            if #lives > 0 then redis.call('HSET', k.live, unpack(lives)) end
            conclude(call, k)
            return reply
        end

        -- limit → leases that have expired
        define('lapsed', {'no-writes'}, {'leases'}, function(call, k, args)
            return redis.call('ZRANGEBYSCORE', k.leases, '-inf', decimal(now()), 'LIMIT', 0, args[2])
        end)

        -- limit → {lease, crashes}… of leases that have expired
        define('reclaim', FREE, ENDING, function(call, k, args)
            local limit = math.min(tonumber(args[2]), RUNS_A_CALL)
            local expired = redis.call('ZRANGEBYSCORE', k.leases, '-inf', decimal(now()), 'LIMIT', 0, limit)
            return giveUp(call, k, expired, 1)
        end)

        -- The leases of one owner on one page of the scan, and the cursor of the next.
        local function ofOwner(k, owner, cursor)
            local pattern, leases = owner .. ' *', {}
            local page = redis.call('ZSCAN', k.leases, cursor, 'MATCH', pattern, 'COUNT', RUNS_A_CALL)
            for i = 1, #page[2], 2 do leases[#leases + 1] = page[2][i] end
            return page[1], leases
        end

        -- owner, cursor, crash (0 or 1) → cursor, then {lease, crashes}…
        define('disown', FREE, ENDING, function(call, k, args)
            local cursor, leases = ofOwner(k, args[2], args[3])
            return {cursor, unpack(giveUp(call, k, leases, tonumber(args[4])))}
        end)

        -- owner, cursor, lease milliseconds → cursor, how many were extended
        define('renew', FREE, {'leases'}, function(call, k, args)
            local cursor, leases = ofOwner(k, args[2], args[3])
            local deadline, values = decimal(now() + tonumber(args[4])), {}
            for i, lease in ipairs(leases) do values[2 * i - 1], values[2 * i] = deadline, lease end
            if #values > 0 then redis.call('ZADD', k.leases, 'XX', unpack(values)) end
            return {cursor, #leases}
        end)
        """#
}
