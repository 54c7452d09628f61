-- Notes since when it has been tried to tell an outcome, unless that is known.
-- KEYS[1] = conclave:webhooks:since   zset, session ids by ms, microseconds behind the point
-- ARGV[1] = session id
-- ARGV[2] = since when
-- ARGV[3] = 1 to replace what is known
-- When Redis is full: goes on
-- returns  the ms that are known then, as text
local known = redis.call('ZSCORE', KEYS[1], ARGV[1])
if known and ARGV[3] ~= '1' then
  return string.format('%.3f', tonumber(known))
end
redis.call('ZREM', KEYS[1], '') -- nothing, and not refused
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
return ARGV[2]
