// Four loops in which a CPU build of Caffe 1.0 spends half of a training, written for the processor's vectors.
//
// Preloaded into a process, these functions stand before those of libcaffe that have the same names.  Each does the same
// operations on each number in the same order, so that results are the same to the last bit, NaN included.  What they do
// not cover they hand to Caffe's own.  Two of them read members of Caffe's objects, at offsets that hold for the builds
// in BUILDS only; in the face of any other build all four hand everything on.

#include <dlfcn.h>
#include <link.h>

#include <cfloat>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

namespace {

// GNU build ID of libcaffe, and where its members lie (bytes).
struct Build {
  const char* id;
  int blob_count;                                           // Blob::count_
  int relu_parameters, relu_slope;                          // Layer::layer_param_.relu_param_, ReLUParameter::negative_slope_
  int pool_parameters, pool_method, pool_sizes, pool_mask;  // .pooling_param_, PoolingParameter::pool_, kernel_h_, max_idx_
};
const Build BUILDS[] = {
    // Debian 11, 1.0.0+git20180821.99bd997-8+b2, amd64
    {"6a301a4efb855a12333c2ba4a2904aa2321dfd19", 0x48, 0x1a0, 0x18, 0x190, 0x18, 0x2d8, 0x360},
};

struct Blob;
typedef std::vector<Blob*> Blobs;
typedef void Pool(void* layer, const Blobs& bottom, const Blobs& top);
typedef void Relu(void* layer, const Blobs& top, const std::vector<bool>& down, const Blobs& bottom);
typedef void Image(const float* from, int channels, int height, int width, int kernel_h, int kernel_w, int pad_h, int pad_w,
                   int stride_h, int stride_w, int dilation_h, int dilation_w, float* to);

#define POOL "_ZN5caffe12PoolingLayerIfE11Forward_cpuERKSt6vectorIPNS_4BlobIfEESaIS5_EES9_"
#define RELU "_ZN5caffe9ReLULayerIfE12Backward_cpuERKSt6vectorIPNS_4BlobIfEESaIS5_EERKS2_IbSaIbEES9_"
#define IM2COL "_ZN5caffe10im2col_cpuIfEEvPKT_iiiiiiiiiiiPS1_"
#define COL2IM "_ZN5caffe10col2im_cpuIfEEvPKT_iiiiiiiiiiiPS1_"

template <typename T>
T member(const void* object, int offset) {
  T value;
  memcpy(&value, static_cast<const char*>(object) + offset, sizeof value);
  return value;
}

// Finds the object that holds an address, and writes its GNU build ID in hexadecimal.
struct Search {
  uintptr_t address;
  char id[2 * 64 + 1];
};

int find_id(dl_phdr_info* info, size_t, void* data) {
  auto* search = static_cast<Search*>(data);
  bool inside = false;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& part = info->dlpi_phdr[i];
    inside |= part.p_type == PT_LOAD && search->address - info->dlpi_addr - part.p_vaddr < part.p_memsz;
  }
  if (!inside) return 0;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& part = info->dlpi_phdr[i];
    if (part.p_type != PT_NOTE) continue;
    const char* note = reinterpret_cast<const char*>(info->dlpi_addr + part.p_vaddr);
    const char* end = note + part.p_memsz;
    while (note + sizeof(ElfW(Nhdr)) <= end) {
      const auto* head = reinterpret_cast<const ElfW(Nhdr)*>(note);
      const char* name = note + sizeof *head;
      const auto* value = reinterpret_cast<const unsigned char*>(name + ((head->n_namesz + 3) & ~3u));
      if (head->n_type == NT_GNU_BUILD_ID && head->n_namesz == 4 && !memcmp(name, "GNU", 4) && head->n_descsz <= 64) {
        for (unsigned k = 0; k < head->n_descsz; ++k) snprintf(search->id + 2 * k, 3, "%02x", value[k]);
        return 1;
      }
      note = reinterpret_cast<const char*>(value) + ((head->n_descsz + 3) & ~3u);
    }
  }
  return 1;
}

// The libcaffe that calls; pycaffe loads it where a search by name alone does not look.
struct Caffe {
  Pool* pool;
  Relu* relu;
  Image *im2col, *col2im;
  const float* (*data)(const Blob*);
  const float* (*diff)(const Blob*);
  float* (*mutable_data)(Blob*);
  float* (*mutable_diff)(Blob*);
  int* (*mutable_ints)(void*);
  const Build* build = nullptr;

  explicit Caffe(void* caller) {
    Dl_info where;
    void* library = dladdr(caller, &where) ? dlopen(where.dli_fname, RTLD_LAZY | RTLD_NOLOAD) : nullptr;
    find(library, POOL, &pool);
    find(library, RELU, &relu);
    find(library, IM2COL, &im2col);
    find(library, COL2IM, &col2im);
    find(library, "_ZNK5caffe4BlobIfE8cpu_dataEv", &data);
    find(library, "_ZNK5caffe4BlobIfE8cpu_diffEv", &diff);
    find(library, "_ZN5caffe4BlobIfE16mutable_cpu_dataEv", &mutable_data);
    find(library, "_ZN5caffe4BlobIfE16mutable_cpu_diffEv", &mutable_diff);
    find(library, "_ZN5caffe4BlobIiE16mutable_cpu_dataEv", &mutable_ints);
    Search search = {reinterpret_cast<uintptr_t>(pool), ""};
    dl_iterate_phdr(find_id, &search);
    for (const Build& one : BUILDS)
      if (!strcmp(search.id, one.id) && data && diff && mutable_data && mutable_diff && mutable_ints) build = &one;
  }

  template <typename F>
  static void find(void* library, const char* name, F** function) {
    *function = reinterpret_cast<F*>(dlsym(library ? library : RTLD_NEXT, name));
  }
};

const Caffe& caffe_of(void* caller) {
  static const Caffe caffe(caller);
  return caffe;
}
#define CAFFE caffe_of(__builtin_return_address(0))

const int LANES = 16;
typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int Ints __attribute__((vector_size(4 * LANES)));

const int MOST_BLOCKS = 4;  // a row of the pooled image has at most this many vectors
const int MOST_STRIDE = 4;
const int MOST_KERNEL = 16;
const int ROOM = LANES * MOST_BLOCKS + MOST_KERNEL;

struct PoolSizes {
  int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, channels, height, width, rows, columns;

  bool covered(int from, int to) const {
    return pad_h == 0 && pad_w == 0 && kernel_h > 0 && kernel_w > 0 && kernel_w <= MOST_KERNEL && stride_h > 0 && stride_w > 0
           && stride_w <= MOST_STRIDE && channels > 0 && height > 0 && width > 0 && rows > 0 && columns > 0
           && columns <= LANES * MOST_BLOCKS && width <= stride_w * ROOM && from % (height * width) == 0
           && to % (rows * columns) == 0 && from / (height * width) == to / (rows * columns);
  }
};

// The maximum under each window, and where in the image it lies; of equal ones the first.  A row of the image is split
// by its column modulo the stride, so that a step of all windows reads neighbours.
void pool_image(const PoolSizes& s, const float* image, float (*split)[ROOM], float* out, int* mask) {
  const int blocks = (s.columns + LANES - 1) / LANES;
  Ints step;
  for (int i = 0; i < LANES; ++i) step[i] = i * s.stride_w;
  for (int row = 0; row < s.rows; ++row, out += s.columns, mask += s.columns) {
    const int first = row * s.stride_h;
    const int end = first + s.kernel_h < s.height ? first + s.kernel_h : s.height;
    Floats best[MOST_BLOCKS];
    Ints where[MOST_BLOCKS];
    for (int k = 0; k < blocks; ++k) {
      best[k] = Floats{} - FLT_MAX;
      where[k] = Ints{} - 1;
    }
    for (int y = first; y < end; ++y) {
      const float* line = image + y * s.width;
      if (s.stride_w == 2) {
        for (int x = 0; x < s.width / 2; ++x) {
          split[0][x] = line[2 * x];
          split[1][x] = line[2 * x + 1];
        }
        if (s.width % 2) split[0][s.width / 2] = line[s.width - 1];
      } else {
        for (int x = 0; x < s.width; ++x) split[x % s.stride_w][x / s.stride_w] = line[x];
      }
      for (int x = 0; x < s.kernel_w; ++x) {
        const float* from = split[x % s.stride_w] + x / s.stride_w;
        for (int k = 0; k < blocks; ++k) {
          Floats value;
          memcpy(&value, from + LANES * k, sizeof value);
          const Ints greater = value > best[k];
          best[k] = greater ? value : best[k];
          where[k] = greater ? step + (y * s.width + x + LANES * k * s.stride_w) : where[k];
        }
      }
    }
    memcpy(out, best, s.columns * sizeof(float));
    memcpy(mask, where, s.columns * sizeof(int));
  }
}

bool covered(int kernel_h, int kernel_w, int height, int width, int pad_h, int pad_w, int stride_h, int stride_w, int dilation_h,
             int dilation_w) {
  return pad_h == 0 && pad_w == 0 && stride_h == 1 && stride_w == 1 && dilation_h == 1 && dilation_w == 1 && kernel_h <= height
         && kernel_w <= width;
}

}  // namespace

#define PUBLIC extern "C" __attribute__((visibility("default")))

PUBLIC void pool_forward(void* layer, const Blobs& bottom, const Blobs& top) __asm__(POOL);
void pool_forward(void* layer, const Blobs& bottom, const Blobs& top) {
  const Caffe& caffe = CAFFE;
  if (!caffe.build || top.size() != 1) return caffe.pool(layer, bottom, top);
  const Build& build = *caffe.build;
  const void* parameters = member<void*>(layer, build.pool_parameters);
  const auto sizes = member<PoolSizes>(layer, build.pool_sizes);
  const int count = member<int>(top[0], build.blob_count);
  if (!parameters || member<int>(parameters, build.pool_method) != 0 || !sizes.covered(member<int>(bottom[0], build.blob_count), count)) {
    return caffe.pool(layer, bottom, top);
  }
  const float* image = caffe.data(bottom[0]);
  float* out = caffe.mutable_data(top[0]);
  int* mask = caffe.mutable_ints(static_cast<char*>(layer) + build.pool_mask);
  float split[MOST_STRIDE][ROOM];
  for (auto& line : split)
    for (float& value : line) value = -FLT_MAX;  // beyond the image's edge: never the greatest
  for (int done = 0; done < count; done += sizes.rows * sizes.columns, image += sizes.height * sizes.width) {
    pool_image(sizes, image, split, out + done, mask + done);
  }
}

PUBLIC void relu_backward(void* layer, const Blobs& top, const std::vector<bool>& down, const Blobs& bottom) __asm__(RELU);
void relu_backward(void* layer, const Blobs& top, const std::vector<bool>& down, const Blobs& bottom) {
  const Caffe& caffe = CAFFE;
  if (!caffe.build || !down[0]) return caffe.relu(layer, top, down, bottom);
  const void* parameters = member<void*>(layer, caffe.build->relu_parameters);
  if (parameters && member<float>(parameters, caffe.build->relu_slope) != 0) return caffe.relu(layer, top, down, bottom);
  const float* data = caffe.data(bottom[0]);
  const float* from = caffe.diff(top[0]);
  float* to = caffe.mutable_diff(bottom[0]);
  const int count = member<int>(bottom[0], caffe.build->blob_count);
#pragma GCC ivdep
  for (int i = 0; i < count; ++i) to[i] = from[i] * (data[i] > 0 ? 1.f : 0.f);
}

PUBLIC void im2col(const float* image, int channels, int height, int width, int kernel_h, int kernel_w, int pad_h, int pad_w,
                   int stride_h, int stride_w, int dilation_h, int dilation_w, float* columns) __asm__(IM2COL);
void im2col(const float* image, int channels, int height, int width, int kernel_h, int kernel_w, int pad_h, int pad_w, int stride_h,
            int stride_w, int dilation_h, int dilation_w, float* columns) {
  const Caffe& caffe = CAFFE;
  if (!caffe.build || !covered(kernel_h, kernel_w, height, width, pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w)) {
    return caffe.im2col(image, channels, height, width, kernel_h, kernel_w, pad_h, pad_w, stride_h, stride_w, dilation_h,
                        dilation_w, columns);
  }
  const int rows = height - kernel_h + 1, length = width - kernel_w + 1;
  for (int c = 0; c < channels; ++c, image += height * width)
    for (int y = 0; y < kernel_h; ++y)
      for (int x = 0; x < kernel_w; ++x)
        for (int row = 0; row < rows; ++row, columns += length) {
          const float* from = image + (y + row) * width + x;
#pragma GCC ivdep
          for (int i = 0; i < length; ++i) columns[i] = from[i];
        }
}

PUBLIC void col2im(const float* columns, int channels, int height, int width, int kernel_h, int kernel_w, int pad_h, int pad_w,
                   int stride_h, int stride_w, int dilation_h, int dilation_w, float* image) __asm__(COL2IM);
void col2im(const float* columns, int channels, int height, int width, int kernel_h, int kernel_w, int pad_h, int pad_w, int stride_h,
            int stride_w, int dilation_h, int dilation_w, float* image) {
  const Caffe& caffe = CAFFE;
  if (!caffe.build || !covered(kernel_h, kernel_w, height, width, pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w)) {
    return caffe.col2im(columns, channels, height, width, kernel_h, kernel_w, pad_h, pad_w, stride_h, stride_w, dilation_h,
                        dilation_w, image);
  }
  const int rows = height - kernel_h + 1, length = width - kernel_w + 1;
  memset(image, 0, sizeof(float) * channels * height * width);
  for (int c = 0; c < channels; ++c, image += height * width)
    for (int y = 0; y < kernel_h; ++y)
      for (int x = 0; x < kernel_w; ++x)
        for (int row = 0; row < rows; ++row, columns += length) {
          float* to = image + (y + row) * width + x;
#pragma GCC ivdep
          for (int i = 0; i < length; ++i) to[i] += columns[i];
        }
}

// For tests: which of BUILDS the loaded Caffe is, 0 for none.
PUBLIC int loops_build(void* function_of_caffe) {
  const Build* build = caffe_of(function_of_caffe).build;
  return build ? static_cast<int>(build - BUILDS) + 1 : 0;
}
