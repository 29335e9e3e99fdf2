"""The level set widget: grow a contour on an image, watch it, steer it, accept it."""
