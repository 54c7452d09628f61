-- Takes back what charge.lua has counted, unless it is forgotten by now.
-- KEYS[1] = conclave:quota:{user}   hash
-- ARGV[1] = the bucket
-- ARGV[2] = bytes
-- When Redis is full: goes on
-- returns  1; 0 if the bucket is over
local bytes = redis.call('HGET', KEYS[1], ARGV[1])
if not bytes or tonumber(bytes) < tonumber(ARGV[2]) then
  return 0
end
redis.call('HDEL', KEYS[1], '') -- nothing, and not refused
redis.call('HINCRBY', KEYS[1], ARGV[1], '-' .. ARGV[2])
redis.call('HINCRBY', KEYS[1], string.match(ARGV[1], '^%a+'), '-' .. ARGV[2])
return 1
