#pragma once

// Images from files and into files: PPM (binary, 8 bits), and PNG where libpng is there.

#include <cctype>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(WITH_PNG)
#include <png.h>
#endif

/// Rows of pixels of red, green and blue.
struct Image {
  std::int64_t width = 0, height = 0;
  std::vector<std::uint8_t> pixels;
};

inline bool is_png(const std::string& path) { return path.size() > 4 && path.compare(path.size() - 4, 4, ".png") == 0; }

inline Image read_ppm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const auto next = [&] {
    std::string word;
    while (file >> word && word[0] == '#') file.ignore(1 << 20, '\n');
    return word;
  };
  if (next() != "P6") throw std::runtime_error(path + " isn't a binary PPM image");
  Image image;
  image.width = std::stoll(next());
  image.height = std::stoll(next());
  if (next() != "255" || image.width < 1 || image.height < 1 || image.width > 65535 || image.height > 65535) {
    throw std::runtime_error(path + " isn't a PPM image of 8 bits");
  }
  file.get();
  image.pixels.resize(static_cast<std::size_t>(image.width * image.height * 3));
  file.read(reinterpret_cast<char*>(image.pixels.data()), static_cast<std::streamsize>(image.pixels.size()));
  if (!file) throw std::runtime_error(path + " is too short");
  return image;
}

inline void write_ppm(const Image& image, const std::string& path) {
  std::ofstream file(path, std::ios::binary);
  file << "P6\n" << image.width << ' ' << image.height << "\n255\n";
  file.write(reinterpret_cast<const char*>(image.pixels.data()), static_cast<std::streamsize>(image.pixels.size()));
  if (!file.flush()) throw std::runtime_error("can't write " + path);
}

#if defined(WITH_PNG)

inline Image read_png(const std::string& path) {
  png_image png;
  std::memset(&png, 0, sizeof png);
  png.version = PNG_IMAGE_VERSION;
  if (!png_image_begin_read_from_file(&png, path.c_str())) throw std::runtime_error(path + ": " + png.message);
  png.format = PNG_FORMAT_RGB;
  Image image{png.width, png.height, std::vector<std::uint8_t>(PNG_IMAGE_SIZE(png))};
  const png_color background{255, 255, 255};
  if (!png_image_finish_read(&png, &background, image.pixels.data(), 0, nullptr)) {
    throw std::runtime_error(path + ": " + png.message);
  }
  return image;
}

inline void write_png(const Image& image, const std::string& path) {
  png_image png;
  std::memset(&png, 0, sizeof png);
  png.version = PNG_IMAGE_VERSION;
  png.width = static_cast<png_uint_32>(image.width);
  png.height = static_cast<png_uint_32>(image.height);
  png.format = PNG_FORMAT_RGB;
  if (!png_image_write_to_file(&png, path.c_str(), 0, image.pixels.data(), 0, nullptr)) {
    throw std::runtime_error(path + ": " + png.message);
  }
}

#else

inline Image read_png(const std::string& path) {
  throw std::runtime_error(path + ": built without libpng; use a .ppm file");
}
inline void write_png(const Image&, const std::string& path) { read_png(path); }

#endif

inline Image read_image(const std::string& path) { return is_png(path) ? read_png(path) : read_ppm(path); }

inline void write_image(const Image& image, const std::string& path) {
  is_png(path) ? write_png(image, path) : write_ppm(image, path);
}
