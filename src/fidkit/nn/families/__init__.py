"""The torch halves of the families of blocks, a file each; `fidkit.nn.blocks` imports them when needed."""
