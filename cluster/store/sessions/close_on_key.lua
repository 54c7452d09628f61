-- Removes an ended session from its key: a signing, which is remembered as the
-- last, or the key's reshare, with the shares of its attempts that were not certified.
-- KEYS[1] = conclave:key:{id}          hash
-- KEYS[2] = conclave:key:{id}:shares   hash
-- ARGV[1] = session id
-- When Redis is full: goes on
-- returns  1; 0 if it was not open
local record = redis.call('HMGET', KEYS[1], 'reshare', 'epoch', 'version')
redis.call('HDEL', KEYS[1], '') -- nothing, and not refused
if record[1] == ARGV[1] then
  local shares = redis.call('HGETALL', KEYS[2])
  for i = 1, #shares, 2 do
    local epoch = string.match(shares[i], '^(%d+):%d+$')
    if epoch and tonumber(epoch) > tonumber(record[2] or '1') then
      redis.call('HDEL', KEYS[2], shares[i])
    end
  end
  redis.call('HSET', KEYS[1], 'version', string.format('%.0f', (record[3] or '0') + 1))
  redis.call('HDEL', KEYS[1], 'reshare', 'reshare_since')
  return 1
end
local open = 'open:' .. ARGV[1]
if redis.call('HEXISTS', KEYS[1], open) == 0 then
  return 0
end
redis.call('HSET', KEYS[1], 'last_signing', ARGV[1])
redis.call('HDEL', KEYS[1], open)
return 1
