"""From a class in a buffer to a task: import, inputs, graph, flops, bytes and limit."""
