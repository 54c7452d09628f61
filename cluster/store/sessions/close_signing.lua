-- Removes an ended signing from its key and remembers it as the last.
-- KEYS[1] = conclave:key:{id}   hash
-- ARGV[1] = session id
-- When Redis is full: goes on
-- returns  1; 0 if it was not open
local open = 'open:' .. ARGV[1]
if redis.call('HEXISTS', KEYS[1], open) == 0 then
  return 0
end
redis.call('HDEL', KEYS[1], '') -- nothing, and not refused
redis.call('HSET', KEYS[1], 'last_signing', ARGV[1])
redis.call('HDEL', KEYS[1], open)
return 1
