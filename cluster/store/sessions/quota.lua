-- Stands before the scripts that count what an account stores. All of an
-- account's counts are in one slot:
--   sums = conclave:quota:{user}        hash: sessions -> how many are open; open, long, brief -> bytes; next -> ms, when
--          the first bucket is over; long:<ms>, brief:<ms> -> bytes that are forgotten then
--   open = conclave:quota:{user}:open   hash: session id -> bytes while it is open, bytes
--          after its end, long or brief, ms when it is overdue
--   made = conclave:quota:{user}:keys   hash: keys; bytes, which they take for ever
-- What is to be forgotten is counted in buckets, a twelfth of its life each, so
-- that what a request costs does not grow with what is counted.

local function ms(n) return string.format('%.0f', n) end

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- counted returns open, long and brief bytes, without what is forgotten by now.
local function counted(sums, at)
  local had = redis.call('HMGET', sums, 'open', 'long', 'brief', 'sessions', 'next')
  local n = {
    open = tonumber(had[1] or '0'), long = tonumber(had[2] or '0'), brief = tonumber(had[3] or '0'), sessions = tonumber(had[4] or '0'),
  }
  if not had[5] or tonumber(had[5]) > at then
    return n
  end
  local all, gone, first = redis.call('HGETALL', sums), {'next'}, nil
  for i = 1, #all, 2 do
    local tier, over = string.match(all[i], '^(%a+):(%d+)$')
    if tier and tonumber(over) <= at then
      n[tier] = n[tier] - tonumber(all[i + 1])
      gone[#gone + 1] = all[i]
    elseif tier and (not first or tonumber(over) < first) then
      first = tonumber(over)
    end
  end
  redis.call('HSET', sums, 'long', ms(n.long), 'brief', ms(n.brief)) -- first: who begins something is refused when Redis is full
  redis.call('HDEL', sums, unpack(gone))
  if first then
    redis.call('HSET', sums, 'next', ms(first))
  end
  return n
end

-- tiered returns how long so many more bytes are to be kept, long or brief; else
-- nil, and the ms until a bucket of the brief ones is over. Most is {long, brief},
-- negative for no limit.
local function tiered(sums, n, bytes, most, at)
  if most[1] < 0 or n.long + bytes <= most[1] then
    return 'long'
  end
  if n.brief + bytes <= most[2] then
    return 'brief'
  end
  local all, first = redis.call('HGETALL', sums), 0
  for i = 1, #all, 2 do
    local over = tonumber(string.match(all[i], '^brief:(%d+)$') or '0')
    if over > 0 and (first == 0 or over < first) then
      first = over
    end
  end
  return nil, first > 0 and first - at or 0
end

-- keep counts bytes for so many ms from now and returns their bucket.
local function keep(sums, tier, bytes, life, at)
  local width = math.ceil(life / 12)
  local over = (math.floor((at + life) / width) + 1) * width
  local bucket = tier .. ':' .. ms(over)
  redis.call('HINCRBY', sums, bucket, ms(bytes))
  local first = redis.call('HGET', sums, 'next')
  if not first or tonumber(first) > over then
    redis.call('HSET', sums, 'next', ms(over))
  end
  return bucket
end

-- refused returns {"refused", limit, ms until there is room, session id that is overdue, ...}
-- Those are looked for once a second, and the sum of what is open is set right then.
local function refused(sums, open, limit, wait, at)
  local reply = {'refused', limit, ms(wait)}
  if limit ~= 'open_sessions' and limit ~= 'open_bytes' then
    return reply
  end
  local looked = tonumber(redis.call('HGET', sums, 'looked') or '0')
  if looked <= at and at < looked + 1000 then
    return reply
  end
  local all, sum = redis.call('HGETALL', open), 0
  local sessions = #all / 2
  for i = 1, #all, 2 do
    local bytes, overdue = string.match(all[i + 1], '^(%d+) %d+ %a+ (%d+)$')
    sum = sum + tonumber(bytes)
    if tonumber(overdue) < at and #reply < 67 then
      reply[#reply + 1] = all[i]
    end
  end
  redis.call('HSET', sums, 'looked', ms(at), 'open', ms(sum), 'sessions', ms(sessions))
  return reply
end

-- reserve makes a session's reservation. Args: session id, bytes while it is open, bytes after
-- its end, bytes of its key, ms until it is overdue, then the limits: open sessions, their bytes,
-- bytes kept long, bytes kept briefly, bytes of keys; ms that the counts live.
-- Returns {"granted", 1 if it is new, long or brief} or what refused does.
local function reserve(sums, open, made, a)
  local held = redis.call('HGET', open, a[1])
  if held then
    return {'granted', 0, string.match(held, '%a+')}
  end
  local at = now()
  local n, bytes, kept, key = counted(sums, at), tonumber(a[2]), tonumber(a[3]), tonumber(a[4])
  local sessions, most, keys = tonumber(a[6]), tonumber(a[7]), tonumber(a[10])
  if sessions >= 0 and n.sessions >= sessions then
    return refused(sums, open, 'open_sessions', 0, at)
  end
  if most >= 0 and n.open + bytes > most then
    return refused(sums, open, 'open_bytes', 0, at)
  end
  if key > 0 and keys >= 0 and tonumber(redis.call('HGET', made, 'bytes') or '0') + key > keys then
    return refused(sums, open, 'key_bytes', 0, at)
  end
  local tier, wait = tiered(sums, n, kept, {tonumber(a[8]), tonumber(a[9])}, at)
  if not tier then
    return refused(sums, open, 'ended_bytes', wait, at)
  end
  redis.call('HSET', open, a[1], ms(bytes) .. ' ' .. ms(kept) .. ' ' .. tier .. ' ' .. ms(at + a[5]))
  redis.call('HSET', sums, 'sessions', ms(n.sessions + 1), 'open', ms(n.open + bytes), tier, ms(n[tier] + kept))
  redis.call('PEXPIRE', sums, a[11])
  redis.call('PEXPIRE', open, a[11])
  return {'granted', 1, tier}
end
