-- Ends a session's reservation. (After quota.lua.)
-- KEYS[1] = conclave:quota:{user}        hash
-- KEYS[2] = conclave:quota:{user}:open   hash
-- KEYS[3] = conclave:quota:{user}:keys   hash
-- ARGV[1] = session id
-- ARGV[2] = "ended": it is kept for a time; "never": it was not created; "longer": it is still open
-- ARGV[3] = ms that it is kept if for long, or, of one that is still open, until it is overdue
-- ARGV[4] = ms that it is kept if briefly
-- ARGV[5] = bytes of the key that it has made, 0 for none
-- ARGV[6] = ms that the counts live
-- ARGV[7] = 1 if those bytes are what it has added to a key that was there before: may be negative
-- When Redis is full: goes on
-- returns  1; 0 if nothing was reserved
local held = redis.call('HGET', KEYS[2], ARGV[1])
if not held then
  return 0
end
local at = now()
local bytes, kept, tier = string.match(held, '^(%d+) (%d+) (%a+)')
redis.call('HDEL', KEYS[2], '') -- nothing, and not refused
if ARGV[2] == 'longer' then
  redis.call('HSET', KEYS[2], ARGV[1], bytes .. ' ' .. kept .. ' ' .. tier .. ' ' .. ms(at + ARGV[3]))
  return 1
end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HINCRBY', KEYS[1], 'sessions', -1)
redis.call('HINCRBY', KEYS[1], 'open', '-' .. bytes)
if ARGV[2] == 'never' then
  redis.call('HINCRBY', KEYS[1], tier, '-' .. kept)
  return 1
end
keep(KEYS[1], tier, tonumber(kept), tonumber(tier == 'long' and ARGV[3] or ARGV[4]), at)
if ARGV[7] == '1' then
  local bytes = tonumber(redis.call('HGET', KEYS[3], 'bytes') or '0') + tonumber(ARGV[5])
  redis.call('HSET', KEYS[3], 'bytes', ms(math.max(bytes, 0))) -- of a key older than this count may go more than was counted
elseif tonumber(ARGV[5]) > 0 then
  redis.call('HINCRBY', KEYS[3], 'bytes', ARGV[5])
  redis.call('HINCRBY', KEYS[3], 'keys', 1)
end
redis.call('PEXPIRE', KEYS[1], ARGV[6])
return 1
