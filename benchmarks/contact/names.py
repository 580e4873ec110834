"""Names in the lines of rows: who computes, and what is timed."""

OURS, OURS_TUNED = "maskdsl", "maskdsl tuned"
FLEX, FLEX_TUNED, FLASH, CUDNN = "FlexAttention", "FlexAttention tuned", "SDPA flash", "SDPA cuDNN"
PEERS = (FLEX, FLEX_TUNED, FLASH, CUDNN)
FORWARD, BACKWARD, WITH_MAPS, MAP = "forward", "backward", "forward with maps", "map"
