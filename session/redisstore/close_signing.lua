-- Removes an ended signing from its key and remembers it as the last.
-- KEYS[1] = conclave:key:{id}   hash
-- ARGV[1] = session id
-- When Redis is full: goes on
-- returns  1; 0 if it was not open
if redis.call('HDEL', KEYS[1], 'open:' .. ARGV[1]) == 0 then
  return 0
end
redis.call('HSET', KEYS[1], 'last_signing', ARGV[1])
return 1
