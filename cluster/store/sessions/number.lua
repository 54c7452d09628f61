-- Takes the next epoch number of a key for an attempt of its open reshare.
-- KEYS[1] = conclave:key:{id}   hash
-- ARGV[1] = session id of the reshare
-- ARGV[2] = the number must be greater than this
-- When Redis is full: goes on
-- returns  the number; 0 if the key is not active or the session is not its open reshare
local record = redis.call('HMGET', KEYS[1], 'status', 'reshare', 'epoch', 'highest', 'version')
if record[1] ~= 'active' or record[2] ~= ARGV[1] then
  return 0
end
local number = math.max(tonumber(record[3] or '1'), tonumber(record[4] or '1'), tonumber(ARGV[2])) + 1
redis.call('HDEL', KEYS[1], '') -- nothing, and not refused
redis.call('HSET', KEYS[1], 'highest', string.format('%.0f', number), 'version', string.format('%.0f', (record[5] or '0') + 1))
return number
